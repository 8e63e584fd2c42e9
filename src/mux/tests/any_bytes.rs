//! The exchange under whatever bytes of either side.

use proptest::prelude::*;

use super::*;

/// Messages with a piece cut out or put in, and bytes that are none.
fn line() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 12] = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1}}}"#,
        r#"{"jsonrpc":"2.0","id":"a","method":"resources/subscribe","params":{"uri":"x:/"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"T"}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2}}"#,
        r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"elicitationId":"e"}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"tasks/list","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"initialize","params":{"capabilities":7}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"server/discover"}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"logging/setLevel","params":{"level":"debug"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
    ];
    let cut = (prop::sample::select(&PIECES[..]), 0..200_usize, 0..20_usize, any::<[u8; 3]>());
    let cut = cut.prop_map(|(piece, at, less, more)| {
        let mut bytes = piece.as_bytes().to_vec();
        let at = at % bytes.len();
        let end = (at + less).min(bytes.len());
        bytes.splice(at..end, more);
        bytes
    });
    let whole = prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec());
    prop_oneof![3 => whole, 3 => cut, 1 => prop::collection::vec(any::<u8>(), 0..80)]
}

proptest! {
    /// No line of either side ends the mux, and whatever it says is one JSON message a line.
    #[test]
    fn no_line_of_either_side_does_harm(lines in prop::collection::vec((0..3_usize, line()), 1..60)) {
        let mut desk = Desk::new(Share::Tenant);
        let (a, child) = desk.legacy(1, 1000);
        let (b, _) = desk.legacy(2, 1001);
        for (from, line) in lines {
            match from {
                0 => desk.exchange.client_line(a, Line::Whole(&line), desk.now),
                1 => desk.exchange.client_line(b, Line::Whole(&line), desk.now),
                _ => desk.exchange.child_line(child, Line::Whole(&line), desk.now),
            }
            for end in [End::Session(a), End::Session(b), End::Child(child)] {
                for line in desk.heard(end) {
                    let envelope = crate::mcp::envelope::Envelope::read(line.as_bytes());
                    prop_assert!(envelope.is_ok(), "{line}");
                }
            }
        }
    }
}
