//! What a modern server says that it needs, and the request that brings it. Pure: bytes in, bytes out.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mcp::envelope::{Envelope, members, text};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::{is_empty_object, raw_members, without_members};

/// The most that one result may ask for.
const QUESTIONS: usize = 64;

/// An `input_required` result.
#[derive(Debug)]
pub(super) struct Required<'a> {
    /// In the server's order.
    pub(super) questions: Vec<Question<'a>>,
    pub(super) state: Option<&'a RawValue>,
}

/// One of its `inputRequests`.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) key: String,
    pub(super) method: String,
    params: Option<&'a RawValue>,
}

impl<'a> Required<'a> {
    /// Reads the result.
    ///
    /// # Errors
    /// What is wrong with it, for the client.
    pub(super) fn read(result: &'a RawValue) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Members<'a> {
            #[serde(borrow, default, rename = "inputRequests")]
            requests: Option<&'a RawValue>,
            #[serde(borrow, default, rename = "requestState")]
            state: Option<&'a RawValue>,
        }
        let found: Members<'a> = members(result).map_err(|_| refused("it does not say which"))?;
        let questions = found.requests.map(questions).transpose()?.unwrap_or_default();
        if questions.is_empty() && found.state.is_none() {
            return Err(refused("it does not say which"));
        }
        Ok(Self { questions, state: found.state })
    }
}

fn questions(requests: &RawValue) -> Result<Vec<Question<'_>>, Failure> {
    // Also the proof that every key is text.
    let keys: BTreeMap<String, &RawValue> =
        serde_json::from_str(requests.get()).map_err(|_| refused("inputRequests is no object"))?;
    let all: Vec<_> = raw_members(requests.get()).take(QUESTIONS + 1).collect();
    if all.len() > QUESTIONS {
        return Err(refused(&format!("it asks for more than {QUESTIONS} things at once")));
    }
    if all.len() != keys.len() {
        return Err(refused("a key of inputRequests comes twice"));
    }
    all.into_iter().map(|(key, request)| question(key, request)).collect()
}

fn question(key: String, request: &str) -> Result<Question<'_>, Failure> {
    #[derive(Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        method: &'a RawValue,
        #[serde(borrow, default)]
        params: Option<&'a RawValue>,
    }
    let no_request = || refused("an entry of inputRequests is no request");
    let asked: Asked<'_> = serde_json::from_str(request).map_err(|_| no_request())?;
    let method = text(asked.method).ok_or_else(no_request)?.into_owned();
    if !request.starts_with('{')
        || asked.params.is_some_and(|params| !params.get().starts_with('{'))
    {
        return Err(no_request());
    }
    Ok(Question { key, method, params: asked.params })
}

impl Question<'_> {
    /// The request that the client gets.
    pub(super) fn line(&self, id: u64) -> Vec<u8> {
        let method = Value::from(self.method.as_str());
        let params =
            self.params.map_or_else(String::new, |it| format!(r#","params":{}"#, it.get()));
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}{params}}}"#).into_bytes()
    }
}

/// A client's line again, with the answers by their keys and the server's state in the place of whatever
/// it had there. `None` where it is no request.
pub(super) fn resent(
    line: &[u8],
    answers: &[(&str, &RawValue)],
    state: Option<&RawValue>,
) -> Option<Vec<u8>> {
    let envelope = Envelope::read(line).ok()?;
    let mut more = Vec::new();
    if !answers.is_empty() {
        let answers = answers.iter();
        let each: Vec<String> = answers
            .map(|(key, answer)| format!("{}:{}", Value::from(*key), answer.get()))
            .collect();
        more.push(format!(r#""inputResponses":{{{}}}"#, each.join(",")));
    }
    more.extend(state.map(|state| format!(r#""requestState":{}"#, state.get())));
    let more = more.join(",");
    let at = |raw: &RawValue| {
        let start = raw.get().as_ptr() as usize - line.as_ptr() as usize;
        start..start + raw.get().len()
    };
    let (range, params) = match envelope.params {
        Some(params) => {
            let mut bare = without_members(params.get(), |key| {
                matches!(key, "inputResponses" | "requestState")
            });
            bare.pop();
            let comma = if is_empty_object(&format!("{bare}}}")) { "" } else { "," };
            (at(params), format!("{bare}{comma}{more}}}"))
        }
        None => {
            let end = at(envelope.method?).end;
            (end..end, format!(r#","params":{{{more}}}"#))
        }
    };
    Some([line.get(..range.start)?, params.as_bytes(), line.get(range.end..)?].concat())
}

/// The server needs input that it does not get.
pub(super) fn refused(why: &str) -> Failure {
    Failure::new(
        Code::Denied,
        "input",
        format!("the server needs input for this request, and does not get it: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn a_line_is_sent_again_with_its_own_bytes_and_the_answers() {
        let (answer, state) = (raw(r#"{ "n": 1.0e2 , "u":"\ud83d"}"#), raw(r#""\u00e9 \"s\"""#));
        let answers = [("k\u{e9}\"y", &*answer)];
        let added = r#""inputResponses":{"ké\"y":{ "n": 1.0e2 , "u":"\ud83d"}},"requestState":"\u00e9 \"s\"""#;
        for (line, again) in [
            (
                r#"{"id":1,"method":"m"}"#,
                format!(r#"{{"id":1,"method":"m","params":{{{added}}}}}"#),
            ),
            (
                r#"{"params": { },"id":1,"method":"m"}"#,
                format!(r#"{{"params": {{ {added}}},"id":1,"method":"m"}}"#),
            ),
            (
                r#"{"id":1,"params":{"a":1e9, "_meta":{"progressToken":7}},"method":"m"}"#,
                format!(
                    r#"{{"id":1,"params":{{"a":1e9, "_meta":{{"progressToken":7}},{added}}},"method":"m"}}"#
                ),
            ),
            (
                r#"{"params":{"requestState":0,"a":[1, 2],"input\u0052esponses":{}},"method":"m"}"#,
                format!(r#"{{"params":{{"a":[1, 2],{added}}},"method":"m"}}"#),
            ),
        ] {
            let sent = resent(line.as_bytes(), &answers, Some(&state)).expect("a request");
            assert_eq!(String::from_utf8(sent).expect("UTF-8"), again);
        }
    }

    #[test]
    fn a_state_that_was_not_given_is_not_sent() {
        let line = br#"{"method":"m","params":{"requestState":"mine","a":1}}"#;
        let answer = raw("{}");
        let sent = resent(line, &[("k", &*answer)], None).expect("a request");
        assert_eq!(sent, br#"{"method":"m","params":{"a":1,"inputResponses":{"k":{}}}}"#);
    }

    #[test]
    fn what_is_no_input_request_is_refused() {
        let requests = |inner: &str| format!(r#"{{"inputRequests":{inner}}}"#);
        let many: Vec<String> =
            (0..=QUESTIONS).map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#)).collect();
        for bad in [
            "{}".to_owned(),
            requests("[]"),
            requests("{}"),
            requests("7"),
            requests(r#"{"a":[]}"#),
            requests(r#"{"a":{}}"#),
            requests(r#"{"a":{"method":7}}"#),
            requests(r#"{"a":{"method":"m","params":[]}}"#),
            requests(r#"{"a":{"method":"m"},"a":{"method":"m"}}"#),
            requests(r#"{"\ud83d":{"method":"m"}}"#),
            requests(&format!("{{{}}}", many.join(","))),
        ] {
            assert!(Required::read(&raw(&bad)).is_err(), "{bad}");
        }
        let good = raw(&requests(&format!("{{{}}}", many[..QUESTIONS].join(","))));
        assert_eq!(Required::read(&good).expect("good").questions.len(), QUESTIONS);
    }
}
