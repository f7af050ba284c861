//! What counts as a policy; `https` has the tests of the transfer.

use super::*;

#[test]
fn only_a_policy_counts() {
    let reply = |status, content_type: &str, body: &[u8]| HttpsReply {
        status_line: format!("HTTP/1.1 {status} X"),
        status,
        retry_after: None,
        content_type: content_type.into(),
        body: body.to_vec(),
    };
    assert_eq!(policy(reply(200, "text/plain", b"version: STSv1\n")).as_deref(), Ok("version: STSv1\n"));
    for (reply, why) in [
        (reply(301, "text/plain", b"x"), "301 X"),
        (reply(204, "text/plain", b"x"), "204 X"),
        (reply(200, "text/html", b"x"), "not of the type"),
        (reply(200, "", b"x"), "not of the type"),
        (reply(200, "text/plain", b"\xff"), "not text"),
    ] {
        let error = policy(reply).unwrap_err();
        assert!(error.contains(why), "{error}, not {why}");
    }
}
