use super::harness::{Running, SOON, alone, files, free_port, wait_until};
use super::oracle::World;
use super::{random, times};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Each second daemon has its own port, so that only the lock of the state can stop it.
#[test]
fn a_second_daemon_on_one_state_ends_and_loses_nothing() {
    let _alone = alone();
    let world = World::new("");
    let text = fs::read_to_string(world.place.path("pillarbox.toml")).unwrap();
    let port = |port: u16| format!("127.0.0.1:{port}\"");
    let other = text.replace(&port(world.place.port), &port(free_port()));
    let other = other.replace("control.sock", "control2.sock");
    let path = world.place.write("second.toml", &other);
    let mut daemon = world.start();
    let attempts = times(100, 6);
    world.under_load(2, || {
        for _ in 0..attempts {
            let mut second = Running::start(
                Command::new(&world.binary).arg("-c").arg(&path).arg("serve").stderr(Stdio::null()),
            );
            let mut status = None;
            wait_until("the second daemon ends", SOON, || {
                status = second.child.try_wait().unwrap();
                status.is_some()
            });
            let code = status.unwrap().code();
            assert!(
                code.is_some_and(|code| (64..=78).contains(&code) && code != 70),
                "it ended with {status:?}"
            );
            assert!(daemon.is_running(), "the first daemon ended:\n{}", world.place.log());
        }
    });
    daemon.stop();
    world.settle(attempts).judge("second daemons on one state");
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    let _alone = alone();
    let mut random = random("signals");
    let world = World::new("");
    let kinds =
        [Signal::HUP, Signal::USR1, Signal::PIPE, Signal::CHILD, Signal::WINCH, Signal::CONT, Signal::STOP];
    let (rounds, each) = (times(50, 3), 400);
    for _ in 0..rounds {
        let mut daemon = world.start();
        let pid = Pid::from_raw(daemon.pid().cast_signed()).unwrap();
        world.under_load(2, || {
            for _ in 0..each {
                kill_process(pid, kinds[random.below(kinds.len() as u64) as usize]).unwrap();
                std::thread::sleep(Duration::from_micros(random.below(3_000)));
            }
            kill_process(pid, Signal::CONT).unwrap();
            assert!(daemon.is_running(), "a signal ended it:\n{}", world.place.log());
            // It ends by the first of them; the others hit it while it ends.
            for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::TERM, Signal::USR1] {
                let _ = kill_process(pid, signal);
            }
            assert_eq!(daemon.wait().code(), Some(0), "exit code after SIGTERM");
        });
    }
    assert_eq!(files(&world.place.path("state/corrupt")).len(), 0);
    world.settle(rounds * each).judge("signals under load");
}
