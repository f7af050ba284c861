use super::harness::{Place, SOON, alone, program, run, signal, wait_until};
use super::oracle::World;
use super::{is_root, random, times};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Duration;

const SESSIONS: usize = 4;
/// So many that most of them share syncs.
const CROWD: usize = 64;
/// The group of `/var/mail` in Debian.
const GROUP_MAIL: u32 = 8;

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

#[test]
fn kill_9_while_64_sessions_share_syncs_loses_nothing() {
    let _alone = alone();
    let mut random = random("kill -9 in a crowd");
    let world = World::new("limits.connections = 200\nlimits.connections_per_ip = 200\n");
    let kills = times(500, 8);
    for _ in 0..kills {
        let daemon = world.start();
        world.under_load(CROWD, || {
            std::thread::sleep(Duration::from_millis(5 + random.below(400)));
            daemon.signal("KILL");
            drop(daemon);
        });
    }
    world.settle(kills).judge("kills of the daemon under the load of 64 sessions");
}

/// System users, each in place of one whom the oracle knows. The last one's mailbox is an mbox.
const SYSTEM_USERS: [(&str, &str); 5] =
    [("u", "games"), ("v", "news"), ("w", "man"), ("s", "daemon"), ("m", "lp")];

/// The second process is killed, which writes the mail of system users. The daemon ends with 75, and is started again.
#[test]
fn kill_9_of_the_delivery_agent_loses_nothing() {
    let _alone = alone();
    let test = "kill -9 of the delivery agent";
    if !is_root(test) {
        return;
    }
    let mut random = random(test);
    let world = world_of_system_users();
    let kills = times(200, 10);
    for _ in 0..kills {
        let mut daemon = world.start();
        let agent = agent_of(daemon.pid());
        let code = world.under_load(4 * SESSIONS, || {
            std::thread::sleep(Duration::from_millis(5 + random.below(250)));
            signal(agent, "KILL");
            daemon.wait().code()
        });
        assert_eq!(code, Some(75), "{}", world.place.log());
    }
    let daemon = world.start();
    world.drain(&daemon, 0);
    daemon.stop();
    for (name, account) in SYSTEM_USERS {
        fs::rename(world.place.path("mail").join(account), world.place.path("mail").join(name)).unwrap();
    }
    world.ask(kills).judge("kills of the delivery agent under load");
}

/// The agent of a daemon. It takes its name when it first runs, which may be after the daemon's greeting.
fn agent_of(daemon: u32) -> u32 {
    let mut agent = None;
    wait_until("the agent runs", SOON, || {
        let mut pgrep = program("pgrep", "procps");
        let output = pgrep.args(["-P", &daemon.to_string(), "pillarbox-mda"]).output().unwrap();
        agent = String::from_utf8(output.stdout).unwrap().trim().parse().ok();
        agent.is_some()
    });
    agent.unwrap()
}

/// A daemon that runs as nobody, and whose users are those of the system.
fn world_of_system_users() -> World {
    let place = Place::open();
    let lines: String = SYSTEM_USERS.iter().map(|(name, account)| format!("{name}: {account}\n")).collect();
    let aliases = place.write("aliases", &lines);
    let keys = "user = \"nobody\"\nlocal.users = \"system\"\n";
    let world = World::of(place, &format!("{keys}local.aliases = \"{}\"\n", aliases.display()));
    let mail = world.place.path("mail");
    let (_, account) = SYSTEM_USERS[4];
    fs::rename(mail.join("m"), mail.join(account)).unwrap();
    let output = run(program("id", "coreutils").args(["-u", account]));
    let uid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    chown(mail.join(account), Some(uid), Some(GROUP_MAIL)).unwrap();
    fs::set_permissions(mail.join(account), Permissions::from_mode(0o660)).unwrap();
    chown(&mail, Some(0), Some(GROUP_MAIL)).unwrap();
    fs::set_permissions(&mail, Permissions::from_mode(0o2775)).unwrap();
    world
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
        let mut command = program("timeout", "coreutils");
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
