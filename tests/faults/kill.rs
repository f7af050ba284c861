use super::harness::alone;
use super::oracle::World;
use super::{random, times};
use std::time::Duration;

const SESSIONS: usize = 4;

#[test]
fn kill_9_at_random_moments_loses_nothing() {
    let _alone = alone();
    let mut random = random("kill -9");
    let world = World::new("");
    let kills = times(500, 15);
    for _ in 0..kills {
        let daemon = world.start();
        world.under_load(SESSIONS, || {
            std::thread::sleep(Duration::from_millis(5 + random.below(250)));
            daemon.signal("KILL");
            drop(daemon);
        });
    }
    world.settle(kills).judge("kills of the daemon under load");
}

/// The program sendmail is killed while it hands a message over, or drops it.
#[test]
fn kill_9_of_sendmail_loses_nothing_that_it_had_promised() {
    let _alone = alone();
    let mut random = random("kill -9 of sendmail");
    let world = World::new("");
    let kills = times(500, 40);
    let (mut killed, mut daemon) = (0, None);
    while killed < kills {
        // Now with a daemon, now without one.
        if killed % 10 == 0 {
            daemon = daemon.is_none().then(|| world.start());
        }
        let mut command = super::harness::program("timeout", "coreutils");
        command.args(["-s", "KILL", &format!("0.{:04}", 20 + random.below(800))]).arg(&world.binary);
        command.arg("-c").arg(world.place.path("pillarbox.toml"));
        world.sendmail_by(command, world.number());
        killed += 1;
    }
    drop(daemon);
    let daemon = world.start();
    world.drain(&daemon, 0);
    daemon.stop();
    world.ask(kills).judge("kills of sendmail");
}
