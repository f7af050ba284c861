//! Aliases, from RCPT to their members.

use crate::config::ListenerKind;
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::*;
use std::path::PathBuf;

const LIST: &str = "list@box.example";
const FAR: &str = "joe@far.example";

/// A world with this aliases file.
fn world(aliases: &str) -> World {
    let world = World::new("");
    write(&world, aliases);
    world
}

fn file(world: &World) -> PathBuf {
    world.state().parent().unwrap().join("aliases")
}

fn write(world: &World, aliases: &str) {
    // Another inode, as an editor makes it: two changes within one tick of the clock must both be seen.
    let new = file(world).with_extension("new");
    std::fs::write(&new, aliases).unwrap();
    std::fs::rename(new, file(world)).unwrap();
}

/// The reply to RCPT.
fn rcpt(world: &World, to: &str) -> String {
    let input = format!("HELO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<{to}>\r\nQUIT\r\n");
    let output = world.session(input.as_bytes(), &mut |_| ());
    output.lines().nth(3).unwrap().to_owned()
}

#[test]
fn one_recipient_becomes_several_here_and_elsewhere() {
    let world = world("list: alice, bob, joe@far.example, mia@far.example\nalice+x: bob");
    let host = world.far_host();
    world.accept("x@y.example", &[LIST]);
    world.pass();
    assert_eq!((world.queue(), world.mail("alice").len(), world.mail("bob").len()), (vec![], 1, 1));
    assert!(world.mail("bob")[0].contains("Delivered-To: bob@box.example\n"));
    assert!(world.mail("bob")[0].contains("for <list@box.example>"), "as it was asked for");
    let taken = host.taken.lock().unwrap();
    assert_eq!(taken.len(), 1, "both have got it in one transaction");
    assert_eq!(taken[0].to, [FAR, "mia@far.example"]);
    let content = String::from_utf8(taken[0].content.clone()).unwrap();
    assert!(content.starts_with("Delivered-To: list@box.example\r\nReceived: "), "{content}");
    drop(taken);
    // Nobody gets two copies, by whichever aliases they come.
    world.accept("x@y.example", &[LIST, "alice@box.example", "alice+x@box.example", FAR]);
    world.pass();
    assert_eq!((world.mail("alice").len(), world.mail("bob").len()), (2, 2));
    let taken = host.taken.lock().unwrap();
    assert_eq!(taken.iter().flat_map(|taken| &taken.to).filter(|to| *to == FAR).count(), 2);
}

#[test]
fn strangers_reach_by_an_alias_whom_they_could_not_reach_otherwise() {
    let world = world("list: joe@far.example");
    let host = world.far_host();
    for (to, reply) in [(LIST, "250 2.1.5 "), (FAR, "550 5.7.1 ")] {
        let input =
            format!("EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<{to}>\r\nDATA\r\na: b\r\n\r\n.\r\n");
        let output = world.session_by(ListenerPolicy::default(), "192.0.2.77", &input);
        assert!(output.contains(&format!("\r\n{reply}")), "{to}: {output}");
    }
    world.pass();
    assert_eq!(host.taken.lock().unwrap().len(), 1);
}

#[test]
fn the_file_is_read_again_when_it_has_changed() {
    let world = world("list: alice");
    world.accept("x@y.example", &[LIST]);
    write(&world, "list: bob\n|\n");
    take_log();
    world.accept("x@y.example", &[LIST]);
    world.accept("x@y.example", &[LIST]);
    assert_eq!((world.mail("alice").len(), world.mail("bob").len()), (1, 2));
    let lines = take_events("trouble");
    assert!(lines.len() == 1 && lines[0].contains("aliases:2:1: there is no colon"), "{lines:?}");
    // While the file cannot be read, no recipient has a known route.
    std::fs::remove_file(file(&world)).unwrap();
    std::fs::create_dir(file(&world)).unwrap();
    for to in [LIST, "alice@box.example", "nobody@box.example"] {
        assert_eq!(rcpt(&world, to), "451 4.3.0 the user can't be looked up now", "{to}");
    }
    assert_eq!(rcpt(&world, FAR), "250 2.1.5 ok");
    assert_eq!(take_events("trouble").len(), 1, "it is logged once");
    // A missing file counts as empty.
    std::fs::remove_dir(file(&world)).unwrap();
    assert_eq!(rcpt(&world, LIST), "550 5.1.1 no such user here");
    world.accept("x@y.example", &["alice@box.example"]);
}

#[test]
fn a_circle_is_refused_at_once_and_logged() {
    let world = world("list: more\nmore: list\nhalf: half2, bob\nhalf2: half");
    assert_eq!(rcpt(&world, LIST), "550 5.4.6 the alias \"list\" is part of a loop");
    let lines = take_events("trouble");
    assert!(lines.len() == 1 && lines[0].contains("list@box.example: the alias"), "{lines:?}");
    world.accept("x@y.example", &["half@box.example"]);
    assert_eq!((world.mail("bob").len(), take_events("trouble").len()), (1, 1));
}

#[test]
fn a_list_s_failures_go_to_its_owner() {
    let world = world("list: joe@far.example, alice, gone\nowner-list: bob");
    world.net.mx_answer("far.example", Ok(crate::mail::mx::MxAnswer::Null));
    world.accept("alice@box.example", &[LIST]);
    world.live(MINUTE);
    assert_eq!(world.queue(), []);
    assert!(world.mail("alice")[0].starts_with("Return-Path: <owner-list@box.example>\n"));
    let bounces = world.mail("bob").join("");
    for to in [FAR, "gone@box.example"] {
        assert!(bounces.contains(&format!("Final-Recipient: rfc822; {to}")), "{bounces}");
    }
    assert_eq!(world.mail("alice").len(), 1, "the sender hears nothing of it");
    // A null reverse-path stays null.
    world.accept("", &[LIST]);
    world.live(MINUTE);
    assert!(world.mail("alice").iter().any(|mail| mail.starts_with("Return-Path: <>\n")));
    assert_eq!((world.mail("bob").len(), world.queue()), (2, vec![]), "one for each, and none now");
}

#[test]
fn an_unknown_name_among_others_bounces_to_the_sender() {
    let world = world("list: bob, gone");
    world.accept("alice@box.example", &[LIST]);
    world.live(MINUTE);
    assert_eq!((world.queue(), world.mail("bob").len(), world.mail("alice").len()), (vec![], 1, 1));
    assert!(world.mail("alice")[0].contains("Final-Recipient: rfc822; gone@box.example"));
}

#[test]
fn what_dsn_asks_for_goes_with_an_alias_and_not_with_a_list() {
    let world = world("all: joe@far.example\nlist: mia@far.example\nowner-list: bob");
    let input = format!(
        "EHLO c\r\nMAIL FROM:<alice@box.example> RET=HDRS ENVID=e1\r\n\
         RCPT TO:<all@box.example> NOTIFY=NEVER ORCPT=rfc822;first@far.example\r\n\
         RCPT TO:<{LIST}> NOTIFY=NEVER ORCPT=rfc822;second@far.example\r\nDATA\r\na: b\r\n\r\n.\r\nQUIT\r\n"
    );
    let output = world.session(input.as_bytes(), &mut |_| ());
    assert!(output.contains("250 2.0.0 Ok: "), "{output}");
    let mut envelopes: Vec<_> =
        world.queue().into_iter().map(|summary| summary.description.envelope).collect();
    envelopes.sort_by_key(|envelope| envelope.recipients[0].mailbox.to_string());
    let [all, list] = envelopes.as_slice() else { panic!("{envelopes:?}") };
    assert_eq!(all.recipients[0].orcpt.as_deref(), Some("rfc822;first@far.example"));
    assert!(all.recipients[0].notify.is_some() && all.envid.is_some() && all.ret.is_some());
    assert_eq!(
        (all.reverse_path.to_string(), list.reverse_path.to_string()),
        ("alice@box.example".into(), "owner-list@box.example".into(),)
    );
    assert!(list.recipients[0].orcpt.is_none() && list.recipients[0].notify.is_none());
    assert!(list.envid.is_none() && list.ret.is_none());
    // Each entry has its log line, and the first one has the id from the reply to the client.
    let accepted = take_events("accepted");
    assert!(
        accepted.len() == 2 && accepted[0].contains("to=all@box.example,list@box.example"),
        "{accepted:?}"
    );
    assert!(accepted[1].contains("from=owner-list@box.example to=mia@far.example"), "{accepted:?}");
}

/// RFC 3461 §5.2.7: an alias of one passes NOTIFY on, one of several is expanded, a list counts as delivered.
#[test]
fn a_sender_that_asks_for_success_gets_a_notice_about_several_members_and_a_list() {
    let world =
        world("one: joe@far.example\nmany: mia@far.example, bob\nlist: tim@far.example\nowner-list: bob");
    let input = format!(
        "EHLO c\r\nMAIL FROM:<alice@box.example> ENVID=e1\r\nRCPT TO:<one@box.example> NOTIFY=SUCCESS\r\n\
         RCPT TO:<many@box.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;m@box.example\r\n\
         RCPT TO:<{LIST}> NOTIFY=SUCCESS\r\nDATA\r\na: b\r\n\r\n.\r\nQUIT\r\n"
    );
    assert!(world.session(input.as_bytes(), &mut |_| ()).contains("250 2.0.0 Ok: "));
    let recipients = world.queue().into_iter().flat_map(|summary| summary.description.envelope.recipients);
    let mut wishes: Vec<_> = recipients
        .map(|to| {
            (to.mailbox.to_string(), to.orcpt, to.notify.map(|notify| (notify.success, notify.failure)))
        })
        .collect();
    wishes.sort();
    assert_eq!(
        wishes,
        [
            ("joe@far.example".into(), None, Some((true, false))),
            ("mia@far.example".into(), Some("rfc822;m@box.example".into()), Some((false, true))),
            ("tim@far.example".to_owned(), None, None),
        ]
    );
    let (mail, copies) = (world.mail("alice"), world.mail("bob"));
    assert_eq!((mail.len(), copies.len()), (1, 1));
    let many = "Original-Recipient: rfc822;m@box.example\nFinal-Recipient: rfc822; many@box.example\nAction: expanded\nStatus: 2.0.0\n";
    let list = "Final-Recipient: rfc822; list@box.example\nAction: delivered\nStatus: 2.0.0\n";
    assert!(mail[0].contains(many) && mail[0].contains(list), "{}", mail[0]);
    assert_eq!(mail[0].matches("\nAction: ").count(), 2, "{}", mail[0]);
    // A sender that did not ask gets no notice, and neither does the null sender.
    for sender in ["alice@box.example", ""] {
        let notify = if sender.is_empty() { " NOTIFY=SUCCESS" } else { "" };
        let input = format!(
            "EHLO c\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<many@box.example>{notify}\r\nDATA\r\na: b\r\n\r\n.\r\nQUIT\r\n"
        );
        assert!(world.session(input.as_bytes(), &mut |_| ()).contains("250 2.0.0 Ok: "));
    }
    assert_eq!((world.mail("alice").len(), world.mail("bob").len()), (1, 3));
}

#[test]
fn lmtp_answers_once_a_recipient_however_many_it_stands_for() {
    let world = world("list: alice, bob, joe@far.example");
    let lmtp = ListenerPolicy { kind: ListenerKind::Lmtp, ..ListenerPolicy::default() };
    let input = format!(
        "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<{LIST}>\r\nRCPT TO:<alice@box.example>\r\nDATA\r\na: b\r\n\r\n.\r\nQUIT\r\n"
    );
    let output = world.session_by(lmtp, "127.0.0.1", &input);
    assert_eq!(output.matches("250 2.0.0 Ok: ").count(), 2, "{output}");
    assert_eq!((world.mail("alice").len(), world.mail("bob").len(), world.queue().len()), (1, 1, 1));
}

/// Two hosts whose aliases point at each other.
#[test]
fn a_message_that_comes_back_to_its_alias_is_refused() {
    let world = world("list: joe@far.example");
    let text = "Delivered-To: other@far.example\nDelivered-To: List@Box.example\nSubject: x\n\n";
    assert_eq!(world.submit("x@y.example", &[LIST], text), "554 5.4.6 mail loop detected");
    world.accept("x@y.example", &[FAR]);
}

#[test]
fn a_copy_whose_maildir_takes_none_now_is_tried_again_and_the_others_are_not() {
    for large in [false, true] {
        let world = world("list: alice, bob, joe@far.example\nbob: \\bob, alice");
        let host = world.far_host();
        world.block("bob");
        let text = format!("\n{}", "y\n".repeat(if large { 100_000 } else { 1 }));
        let reply = world.submit("x@y.example", &[LIST], &format!("Subject: x\n{text}"));
        assert!(reply.starts_with("250 "), "{reply}");
        assert_eq!((world.mail("alice").len(), world.queue().len()), (1, 2));
        world.pass();
        std::fs::remove_file(world.maildir("bob")).unwrap();
        world.live(HOUR);
        assert_eq!((world.queue(), world.mail("bob").len(), world.mail("alice").len()), (vec![], 1, 1));
        assert!(world.mail("bob")[0].ends_with(&text));
        assert_eq!((host.taken.lock().unwrap().len(), world.half_written()), (1, 0));
    }
}

/// Several `admin`s all get root's mail, and failures to reach one of them are told to nobody.
#[test]
fn all_admins_get_the_mail_of_root_and_the_notices() {
    let world = World::new("admin = [\"alice\", \"joe@far.example\"]");
    let host = world.far_host();
    for to in ["root@box.example", "postmaster@box.example"] {
        world.accept("x@y.example", &[to]);
        world.pass();
    }
    assert_eq!((world.queue(), world.mail("alice").len()), (vec![], 2));
    assert_eq!(host.taken.lock().unwrap().iter().filter(|taken| taken.to == [FAR]).count(), 2);
}

/// A bounce that can't be delivered is reported to all of them.
#[test]
fn all_admins_learn_of_a_bounce_that_fails() {
    let world = World::new("admin = [\"alice\", \"bob\"]");
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 nobody") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(host));
    // The message fails, and then its bounce to the sender, who is there as well.
    world.submit("sender@far.example", &["gone@far.example"], "Subject: x\n\nx\n");
    for _ in 0..4 {
        world.pass();
    }
    assert_eq!((world.mail("alice").len(), world.mail("bob").len()), (1, 1), "{:?}", world.queue());
    assert!(world.mail("bob")[0].contains("sender@far.example"));
}
