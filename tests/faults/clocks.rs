use super::harness::{alone, faketime_library};
use super::oracle::World;
use super::{random, times};
use std::time::Duration;

/// Offsets of the wall clock in seconds: 1970, 2000, yesterday, the next hour, 2038 and later, 2106 and later.
const OFFSETS: [i64; 8] =
    [-1_790_000_000, -840_000_000, -86_400, 3_600, 360_000_000, 400_000_000, 2_500_000_000, 2_600_000_000];

#[test]
fn a_wall_clock_that_jumps_under_load_loses_nothing() {
    let _alone = alone();
    let mut random = random("clocks");
    let world = World::new("queue.lifetime = \"1h\"\nqueue.warn_after = \"30m\"\n");
    let time = world.place.write("time", "+0\n");
    let mut command = world.command();
    command.env("LD_PRELOAD", faketime_library()).env("FAKETIME_TIMESTAMP_FILE", &time);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let jumps = times(150, 12);
    for turn in 0..jumps {
        // Each third turn starts with a clock that is wrong from the start.
        std::fs::write(&time, format!("{:+}\n", OFFSETS[random.below(8) as usize])).unwrap();
        let daemon = world.place.run(&mut command);
        world.under_load(2, || {
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(50 + random.below(200)));
                let offset = OFFSETS[random.below(8) as usize] + random.below(100_000) as i64;
                std::fs::write(&time, format!("{offset:+}\n")).unwrap();
            }
            if turn % 3 == 0 {
                daemon.signal("KILL");
            }
        });
    }
    world.settle(3 * jumps).judge("wrong clocks and jumps between 1970 and 2108, under load");
}
