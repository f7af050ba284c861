use super::harness::{alone, program, run};
use super::oracle::{Figures, World, measured};
use super::{is_root, times};
use std::process::Command;
use std::time::Duration;

/// A user that runs nothing else, for the limit of threads.
const UID: &str = "--reuid=64242";

/// Limits as `prlimit` takes them. Address space: a debug build needs more for itself.
fn limits() -> [Vec<String>; 5] {
    let (_, is_release) = measured();
    let memory = format!("--as={}", if *is_release { 32 << 20 } else { 96 << 20 });
    let [descriptors, threads, size] = ["--nofile=64", "--nproc=20", "--fsize=1048576"].map(str::to_owned);
    [
        vec![descriptors.clone()],
        vec![threads.clone()],
        vec![size.clone()],
        vec![memory.clone()],
        vec![memory, descriptors, threads, size],
    ]
}

#[test]
fn tight_limits_lose_nothing() {
    let _alone = alone();
    if !is_root("limits") {
        return;
    }
    let mut figures = Figures::default();
    for limits in limits() {
        let world = World::new("limits.connections = 100\nlimits.connections_per_ip = 100\n");
        let mut by = program("setpriv", "util-linux");
        by.args([UID, "--regid=64242", "--clear-groups", "prlimit"]).args(&limits);
        run(Command::new("chown").args(["-R", "64242:64242"]).arg(&world.place.dir));
        // Mail of this user's daemon is read by root; sendmail runs as root.
        let mut command = world.command_by(&mut by);
        let Some(mut daemon) = world.try_start(&mut command) else {
            println!("limits: skipped {limits:?}: {}", world.place.log());
            continue;
        };
        let length = Duration::from_secs(times(30, 1) as u64);
        world.under_load(24, || std::thread::sleep(length));
        assert!(daemon.is_running(), "{limits:?}: it ended:\n{}", world.place.log());
        daemon.stop();
        let of_one = world.settle(1);
        println!("{limits:?}: {} of {} accepted", of_one.accepted, of_one.sent);
        figures.add(of_one);
    }
    figures.judge("sets of tight limits");
}
