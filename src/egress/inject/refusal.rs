//! Our own answers: what is wrong, whose matter it is, and what to do, in JSON for programs and people.

use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};

use super::Target;
use super::body::Answer;
use super::heads::Unfit;
use super::upstream::Unreached;
use super::vault::Unusable;
use crate::egress::dial::NoWay;
use crate::egress::log::Verdict;

/// The header that says whose matter it is, for clients that hide bodies of errors.
const REASON: &str = "tenantd-reason";

/// Why a request has no answer of the host's.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It may not be sent on.
    Unfit(Unfit),
    /// There is no secret, or none that can be used.
    NoSecret(Option<Unusable>),
    /// The host refused the secret, and there is no other.
    Refused(Box<HeaderMap>),
    /// The host refused the secret; there is another, and the request cannot be sent once more.
    Renewed,
    /// The host was not reached.
    Unreached(Unreached),
    /// It went before it answered.
    Broken(hyper::Error),
    /// It did not answer in time.
    Late,
    /// Its answer could not be looked through for the secret.
    Encoded,
}

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Self::Unfit(unfit) => unfit.status(),
            Self::NoSecret(_) | Self::Renewed => 503,
            Self::Refused(_) => 401,
            Self::Unreached(Unreached::NoWay(error)) if error.is_refusal() => 403,
            Self::Unreached(Unreached::NoWay(NoWay::TimedOut) | Unreached::TlsLate) => 504,
            Self::Late => 504,
            Self::Unreached(_) | Self::Broken(_) | Self::Encoded => 502,
        }
    }

    /// Whose matter it is: the credential's, one that passes, or the host's.
    fn reason(&self) -> &'static str {
        match self {
            Self::NoSecret(_) | Self::Refused(_) => "credential",
            Self::Unreached(Unreached::Certificate(_)) | Self::Encoded => "upstream",
            Self::Unfit(_) => "request",
            Self::Unreached(Unreached::NoWay(error)) if error.is_refusal() => "upstream",
            Self::Renewed | Self::Unreached(_) | Self::Broken(_) | Self::Late => "transient",
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Unfit(_) => Verdict::Denied,
            Self::Unreached(Unreached::NoWay(error)) if error.is_refusal() => Verdict::Denied,
            Self::Refused(_) | Self::Renewed | Self::Encoded => Verdict::Allowed,
            _ => Verdict::Failed,
        }
    }

    /// What is wrong. It names the host and the credential, never the secret.
    pub(super) fn what(&self, of: &Target) -> String {
        let (host, name) = (&of.names.outer, &of.credential);
        match self {
            Self::Unfit(unfit) => unfit.to_string(),
            Self::NoSecret(None) => format!("there is no value of the credential {name}"),
            Self::NoSecret(Some(why)) => format!("the credential {name} cannot be sent: {why}"),
            Self::Refused(_) => format!("{host} does not accept the credential {name}"),
            Self::Renewed => format!("{host} did not accept the credential {name}; it is renewed"),
            Self::Unreached(why) => format!("{host} was not reached: {why}"),
            Self::Broken(why) => format!("{host} went before it had answered: {why}"),
            Self::Late => format!("{host} did not answer in time"),
            Self::Encoded => {
                format!("{host} answered in an encoding that it was asked not to use")
            }
        }
    }

    fn cure(&self, of: &Target) -> String {
        let name = &of.credential;
        match self {
            Self::Unfit(_) => format!("send plain HTTP to http://{}/", of.names.inner),
            Self::NoSecret(_) | Self::Refused(_) => {
                format!("set {name} anew (tenantd credential set), or log in again (tenantd login)")
            }
            Self::Renewed => "send the request once more".to_owned(),
            Self::Unreached(Unreached::Certificate(_)) => {
                "if the host's authority is the house's own, name it in egress.ca_file".to_owned()
            }
            Self::Unreached(Unreached::NoWay(error)) if error.is_refusal() => {
                "list the host exactly in sandbox.network, if it is the house's own".to_owned()
            }
            Self::Unreached(_) | Self::Broken(_) | Self::Late => "try again later".to_owned(),
            Self::Encoded => "ask the host's operator".to_owned(),
        }
    }

    pub(super) fn answer(self, of: &Target) -> Response<Answer> {
        let text = serde_json::json!({
            "reason": self.reason(),
            "message": self.what(of),
            "cure": self.cure(of),
            "credential": of.credential,
            "host": of.names.outer,
        });
        let text = Bytes::from(format!("{text}\n"));
        let mut answer = Response::new(Answer::Said(Some(text)));
        let status = StatusCode::from_u16(self.status());
        *answer.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REASON, HeaderValue::from_static(self.reason()));
        if let Self::Refused(challenge) = self {
            headers.extend(*challenge);
        }
        answer
    }
}
