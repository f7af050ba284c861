//! When stuck mail raises an alarm, and what the command gets.

use crate::engine::host::site::current;
use crate::engine::log::counters::Count;
use crate::engine::tests::world::*;
use std::path::PathBuf;
use std::sync::Arc;

const FAR: &str = "joe@far.example";

fn world(config: &str) -> (World, Arc<Host>) {
    let world = World::new(&format!("queue.warn_after = 0\n{config}"));
    let host = world.far_host();
    (world, host)
}

/// Makes a check; returns the log lines of the alarm.
fn look(world: &World) -> Vec<String> {
    take_log();
    world.services.alarm.check(&world.manager, &current(&world.site), world.manager.clock.now());
    take_events("alarm")
}

/// Lets time pass, with passes and checks; returns the log lines of the alarm.
fn live(world: &World, minutes: u32) -> Vec<String> {
    let mut reported = Vec::new();
    for _ in 0..minutes {
        world.clock.advance(MINUTE);
        world.pass();
        reported.extend(look(world));
    }
    reported
}

#[test]
fn a_message_that_is_stuck_is_told_once_with_its_reason_and_so_is_its_end() {
    let (world, host) = world("");
    host.now_says(
        |stage, _| if stage == Stage::Rcpt { reply("450 4.2.0 Greylisted\u{7}") } else { Say::Yes },
    );
    let id = world.accept("alice@box.example", &[FAR]);
    assert_eq!(live(&world, 240), Vec::<String>::new(), "it is four hours old, not older");
    world.clock.jump(-1_000_000);
    let reported = live(&world, 600);
    let [reported] = reported.as_slice() else { panic!("{reported:?}") };
    let start = format!(
        "event=alarm state=alarm reason=stuck id={id} route=- text=\"message {id} has waited for 4h 1m: 450 4.2.0 Greylisted"
    );
    assert!(reported.starts_with(&start) && !reported.contains('\u{7}'), "{reported}");
    host.now_says(|_, _| Say::Yes);
    order(&world, "queue flush");
    let end = "event=alarm state=ok reason=stuck id=- route=- text=\"no message is too old any more\"";
    assert_eq!(live(&world, 60), [end]);
    assert_eq!(world.intake.counters.since_start()[Count::Alarms as usize], 1);
}

#[test]
fn a_route_that_does_not_work_is_told_whoever_flushes_until_it_works() {
    let (world, host) = world("queue.lifetime = \"1h\"\nalarm.stuck_after = \"2h\"");
    host.now_says(|stage, _| if stage == Stage::Greeting { reply("421 4.3.2 closed") } else { Say::Yes });
    let mut reported = Vec::new();
    for _ in 0..5 {
        world.accept("alice@box.example", &[FAR]);
        reported.extend(live(&world, 30));
        order(&world, "queue flush");
    }
    let [reported] = reported.as_slice() else { panic!("{reported:?}") };
    assert!(reported.starts_with("event=alarm state=alarm reason=route id=- route=far.example text=\"far.example has not worked for 2h"), "{reported}");
    assert!(reported.contains("421 4.3.2 closed. The host is busy"), "{reported}");
    assert_eq!(world.services.alarm.standing().len(), 1);
    host.now_says(|_, _| Say::Yes);
    order(&world, "queue flush");
    let reported = live(&world, 5);
    let end = "event=alarm state=ok reason=route id=- route=far.example text=\"far.example works again, or nothing waits for it\"";
    assert_eq!(reported, [end]);
    assert!(world.services.alarm.standing().is_empty());
}

#[test]
fn a_message_between_two_tries_of_its_route_is_told_with_its_reason() {
    let (world, host) = world("queue.retry = \"30m\"\nalarm.stuck_after = \"45m\"");
    host.now_says(|stage, _| if stage == Stage::Greeting { reply("421 4.3.2 closed") } else { Say::Yes });
    let id = world.accept("alice@box.example", &[FAR]);
    world.pass();
    // The pause is over, and no worker has tried again: nothing keeps the message from being tried, as the index sees it.
    world.clock.advance(50 * MINUTE);
    let mut reported = Vec::new();
    for _ in 0..2 {
        world.clock.advance(MINUTE);
        reported.extend(look(&world));
    }
    let stuck = reported.iter().find(|line| line.contains("reason=stuck")).unwrap();
    assert!(
        stuck.contains(&format!("message {id} has waited for 5")) && stuck.contains(": 421 4.3.2 closed"),
        "{stuck}"
    );
}

#[test]
fn a_message_that_waits_for_the_schedule_is_told_so() {
    let (world, _) = world("queue.schedule = \"0 0 1 1 *\"\nalarm.stuck_after = \"1m\"");
    let id = world.accept("alice@box.example", &[FAR]);
    let reported = live(&world, 3);
    let [reported] = reported.as_slice() else { panic!("{reported:?}") };
    assert!(
        reported.contains(&format!("message {id} has waited for 2m: waits for queue.schedule")),
        "{reported}"
    );
}

#[test]
fn what_the_operator_holds_is_not_stuck() {
    let (world, host) = world("");
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    let id = world.accept("alice@box.example", &[FAR]);
    world.pass();
    order(&world, &format!("queue hold {id}"));
    assert_eq!(live(&world, 300), Vec::<String>::new());
    let facts = world.manager.index.queue_facts(&Default::default());
    assert_eq!((facts.held, facts.messages, facts.oldest_moving), (1, 1, None));
    world.intake.clock.save();
    let world = world.restart();
    assert_eq!(world.manager.index.queue_facts(&Default::default()).held, 1, "the journal has it");
    order(&world, &format!("queue release {id}"));
    assert_eq!(live(&world, 1).len(), 1);
}

#[test]
fn a_link_that_is_down_is_told_as_the_reason() {
    let (world, _) = world("alarm.stuck_after = \"1m\"");
    order(&world, "link down");
    let id = world.accept("alice@box.example", &[FAR]);
    let reported = live(&world, 3);
    let [reported] = reported.as_slice() else { panic!("{reported:?}") };
    assert!(
        reported.ends_with(&format!("text=\"message {id} has waited for 2m: the link is down\"")),
        "{reported}"
    );
}

/// The configuration of a command, which the shell reads from a file. As a program the file could be busy: another test
/// forks while this one has it open for writing.
fn command(world: &World, text: &str) -> String {
    format!("alarm.command = \"/bin/sh {}\"", world.directory.file("alarm.sh", text).display())
}

/// A command that appends its environment to a file, and the file.
fn recorder(world: &World) -> (String, PathBuf) {
    let output = world.directory.join("reported");
    let text = format!(
        "{{ echo \"$1\"; env -u PILLARBOX_RELEASE -u PILLARBOX_CONFIG | grep ^PILLARBOX_ | sort; echo .; }} >> {0}.new\ncp {0}.new {0}\n",
        output.display()
    );
    (command(world, &text), output)
}

fn wait_for_told(output: &PathBuf, times: usize) -> String {
    for _ in 0..1000 {
        let reported = std::fs::read_to_string(output).unwrap_or_default();
        if reported.matches("\n.\n").count() >= times {
            return reported;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the command has not been run {times} times: {:?}", std::fs::read_to_string(output));
}

#[test]
fn the_command_runs_once_an_event_and_learns_it_by_its_environment() {
    let (world, host) = world("alarm.stuck_after = \"1m\"");
    let (command, output) = recorder(&world);
    let command = command.replace("alarm.sh", "alarm.sh $(reboot);");
    world.reload(&format!("alarm.stuck_after = \"1m\"\n{command}\nqueue.warn_after = 0"));
    let long = format!("450 4.2.0 $(reboot) `reboot` \u{1b}[2J {}", "x".repeat(1500));
    host.now_says(move |stage, _| if stage == Stage::Rcpt { reply(&long) } else { Say::Yes });
    let id = world.accept("alice@box.example", &[FAR]);
    live(&world, 3);
    let reported = wait_for_told(&output, 1);
    let lines: Vec<&str> = reported.lines().collect();
    let [word, id_line, reason, route, state, text, "."] = lines.as_slice() else { panic!("{reported}") };
    assert_eq!(*word, "$(reboot);", "no shell has read it");
    assert_eq!(*id_line, format!("PILLARBOX_ID={id}"));
    assert_eq!(
        [*reason, *route, *state],
        ["PILLARBOX_REASON=stuck", "PILLARBOX_ROUTE=", "PILLARBOX_STATE=alarm"]
    );
    assert!(text.starts_with(&format!("PILLARBOX_TEXT=message {id} has waited for 2m: 450 4.2.0 $(reboot)")));
    assert!(!reported.contains('\u{1b}') && text.len() < 600, "{reported}");
    host.now_says(|_, _| Say::Yes);
    // The command's thread may still run, and nothing is reported meanwhile.
    for _ in 0..1000 {
        order(&world, "queue flush");
        live(&world, 1);
        if std::fs::read_to_string(&output).unwrap().matches("\n.\n").count() > 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let reported = wait_for_told(&output, 2);
    assert!(
        reported.contains("PILLARBOX_STATE=ok\nPILLARBOX_TEXT=no message is too old any more\n.\n"),
        "{reported}"
    );
    live(&world, 10);
    assert_eq!(reported.matches("\n.\n").count(), 2);
}

/// A command that hangs does not outlive the daemon.
#[test]
fn a_command_that_hangs_ends_with_the_daemon() {
    let (world, _) = world("");
    let pid = world.directory.join("pid");
    let text = format!("echo $$ > {0}.new\nmv {0}.new {0}\nsleep 1000\n", pid.display());
    world.reload(&format!("alarm.stuck_after = \"1m\"\n{}", command(&world, &text)));
    order(&world, "link down");
    world.accept("alice@box.example", &[FAR]);
    assert_eq!(live(&world, 3).len(), 1);
    let read = || std::fs::read_to_string(&pid).ok();
    let started = (0..1000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        read()
    });
    let process = PathBuf::from("/proc").join(started.unwrap().trim());
    assert!(process.exists());
    world.services.alarm.stop();
    assert!(!process.exists());
}
