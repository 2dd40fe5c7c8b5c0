//! Twenty seconds: half of them with a known seed and without changes of keys, and twice five with new seeds, which are printed.

use std::time::Duration;

use postrider_common::secret::random_bytes;
use postrider_tests::binary::postrider;
use postrider_tests::soak::{self, Options};

#[tokio::test]
async fn nothing_is_lost_and_nothing_arrives_twice() {
    let new = || u64::from_be_bytes(random_bytes());
    for (seed, rotations, seconds) in [(20_260_101, 0, 10), (new(), 3, 5), (new(), 3, 5)] {
        let duration = Duration::from_secs(seconds);
        let (relays, senders, kills, cuts, suspensions, moves) = (3, 1, 3, 4, 2, 2);
        let options = Options { relays, senders, duration, kills, cuts, rotations, suspensions, moves, seed };
        println!("seed {seed}");
        let report = soak::run(&options, postrider(), |_| {}).await.unwrap();
        println!("{report}");
        assert!(report.is_clean(), "seed {seed}: {report}\n{:#?}\n{:?}", report.details, report.kept);
        let done = (report.kills, report.cuts, report.rotations, report.suspensions, report.moves);
        assert_eq!(done, (kills, cuts, rotations, suspensions, moves), "seed {seed}");
        assert!(report.delivered > 0 && report.delivered + report.expired == report.accepted, "{report}");
    }
}
