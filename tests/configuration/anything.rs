//! Arbitrary text and bytes: a tenant or a problem, never a panic.

use proptest::prelude::*;

use crate::{GOOD, Home, is_good, said};

/// Lines that look like a tenant file, and lines that look like nothing.
fn toml_ish() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("name"),
        Just("status"),
        Just("data"),
        Just("server"),
        Just("server.command"),
        Just("args"),
        Just("command"),
        Just("env"),
        Just("memory"),
        Just("users"),
        Just("x"),
        Just("trial_until"),
        Just("template"),
        Just("network"),
        Just("\"a b\""),
        Just(""),
    ];
    let value = prop_oneof![
        Just("\"sh\"".to_owned()),
        Just("3".to_owned()),
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[1, \"x\", {a = 1}]".to_owned()),
        Just("{ sandbox = { read = [\"/\"] } }".to_owned()),
        Just("2026-01-01T00:00:00Z".to_owned()),
        Just("1e999".to_owned()),
        Just("99999999999999999999999".to_owned()),
        "[ -~]{0,12}".prop_map(|text| format!("\"{text}\"")),
        "\\PC{0,8}",
    ];
    let header = prop_oneof![
        Just("[server]"),
        Just("[servers.a]"),
        Just("[[grant]]"),
        Just("[quota]"),
        Just("[sandbox]"),
        Just("[[credential]]"),
        Just("[oauth.a]"),
        Just("[features]"),
        Just("[tools]"),
        Just("[[server]]"),
        Just("[a.b"),
    ];
    let line = prop_oneof![
        6 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        3 => header.prop_map(str::to_owned),
        1 => "\\PC{0,20}",
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_tenant_or_at_least_one_problem(text in toml_ish()) {
        let home = Home::with(&[("tenants.d/acme.toml", &text)]);
        let loaded = home.load();
        prop_assert_eq!(loaded.tenants.len(), 1);
        prop_assert_eq!(is_good(&loaded, "acme"), loaded.problems.is_empty());
        for problem in &loaded.problems {
            prop_assert_eq!(&problem.file, "tenants.d/acme.toml");
            prop_assert!(problem.line > 0 && problem.column > 0, "{}", problem);
            prop_assert!(!problem.to_string().chars().any(char::is_control), "{:?}", problem);
        }
    }

    #[test]
    fn any_bytes_in_any_file_leave_the_others_alone(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let home = Home::with(&[("tenants.d/globex.toml", GOOD)]);
        home.write("tenants.d/acme.toml", &bytes);
        home.write("templates.d/office.toml", &bytes);
        let loaded = home.load();
        prop_assert!(is_good(&loaded, "globex"));
        prop_assert!(is_good(&loaded, "acme") != loaded.problems.iter().any(|p| p.file.contains("acme")));
    }
}

#[test]
fn depth_and_number_are_bounded() {
    for text in [
        "x = ".to_owned() + &"[".repeat(500_000),
        "x = ".to_owned() + &"{a=".repeat(300_000),
        "a.".repeat(400_000) + "b = 1",
        "[".to_owned() + &"a.".repeat(400_000) + "b]",
        (0..50_000).map(|n| format!("k{n} = 1\n")).collect(),
        "\"".repeat(1_000_001),
    ] {
        let loaded = Home::with(&[("tenants.d/acme.toml", &text)]).load();
        let said = said(&loaded);
        assert!((1..=101).contains(&said.len()), "{} problems", said.len());
        assert!(said.iter().all(|line| line.len() < 1000), "a line too long to read");
    }
}
