//! The names by which a server reaches a host under a credential that it never holds. Pure.
//!
//! `NAME.tenantd.internal` leads to the first host of `inject.hosts`; where there are several,
//! `HOST.NAME.tenantd.internal` leads to each of them. NAME is the credential's name as a label of a host
//! name: in lower case, with `-` for each `_`, `.` and `:`, and without a `-` at its end.

use super::patterns::is_host;

/// The domain of these names; `.internal` is nobody's on the internet (ICANN, 2024).
pub const DOMAIN: &str = "tenantd.internal";

/// The label of a credential's name.
pub fn label(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower.replace(['_', '.', ':'], "-").trim_end_matches('-').to_owned()
}

/// Each name that leads out under the credential, with its host; in the order of the hosts.
pub fn names<'a>(credential: &str, hosts: &'a [String]) -> Vec<(String, &'a str)> {
    let base = format!("{}.{DOMAIN}", label(credential));
    let mut names: Vec<_> =
        hosts.first().map(|first| (base.clone(), first.as_str())).into_iter().collect();
    if hosts.len() > 1 {
        names.extend(hosts.iter().map(|host| (format!("{host}.{base}"), host.as_str())));
    }
    names
}

/// The first of these names that is none (RFC 1035, section 2.3.4: its labels and it itself are too long).
pub(super) fn too_long(credential: &str, hosts: &[String]) -> Option<String> {
    names(credential, hosts).into_iter().map(|(name, _)| name).find(|name| !is_host(name))
}

/// Whether a host is one of the names above, or would be.
pub(super) fn is_ours(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label_by_one_rule() {
        for (name, expected) in [
            ("github", "github"),
            ("GitHub_Token", "github-token"),
            ("acme.api:v2", "acme-api-v2"),
            ("a__", "a"),
            ("0-x", "0-x"),
        ] {
            assert_eq!(label(name), expected);
        }
    }

    #[test]
    fn one_host_has_one_name_and_several_have_one_each() {
        let hosts = ["api.github.com".to_owned()];
        let one = [("github.tenantd.internal".to_owned(), "api.github.com")];
        assert_eq!(names("GITHUB", &hosts), one);
        let hosts = ["api.github.com".to_owned(), "uploads.github.com".to_owned()];
        let all: Vec<_> = names("gh", &hosts);
        let expected = [
            ("gh.tenantd.internal", "api.github.com"),
            ("api.github.com.gh.tenantd.internal", "api.github.com"),
            ("uploads.github.com.gh.tenantd.internal", "uploads.github.com"),
        ];
        assert_eq!(all, expected.map(|(name, host)| (name.to_owned(), host)));
        assert!(is_ours(&all[2].0) && is_ours("Tenantd.Internal") && is_ours("*.tenantd.internal"));
        assert!(!is_ours("my-tenantd.internal") && !is_ours("tenantd.internal.acme.lan"));
        assert_eq!(too_long("gh", &hosts), None);
        assert!(too_long(&"x".repeat(64), &hosts).is_some());
        assert!(too_long("gh", &["a.".repeat(100) + "b", "c".to_owned()]).is_none());
        assert!(too_long("gh", &["a.".repeat(120) + "b", "c".to_owned()]).is_some());
    }
}
