//! Downloads: what one address may take of them.

use postrider_tests::cluster::{Cluster, PATIENCE};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::raw::{ALPHA, Target, head, say};

#[tokio::test]
async fn one_address_leaves_downloads_to_others() {
    const CHUNK: u32 = 4 << 20;
    /// As many as one address may have at a time.
    const MOST: usize = 64;
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let relay = cluster.client(ALPHA).unwrap();
    let attachment = relay.reserve_attachment(2 * u64::from(CHUNK), CHUNK).await.unwrap();
    for number in 0..2 {
        relay.put_chunk(attachment.id, number, vec![7; CHUNK as usize].into()).await.unwrap();
    }
    let alpha = Target::of(&cluster, ALPHA).await;
    let line = format!("GET /v1/attachments/{}", attachment.id);
    let mut stalled = Vec::new();
    for _ in 0..MOST {
        let mut stream = alpha.holding_back().tls("http/1.1").await;
        say(&mut stream, &head(&line, &[])).await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200", "and the rest is not read");
        stalled.push(stream);
    }
    let ten = [("range", "bytes=0-9")];
    let over = alpha.call(&line, &ten, b"").await;
    over.assert_problem("one more", 503, "unavailable");
    assert_eq!(over.header("retry-after"), Some("5"));
    let elsewhere = alpha.clone().from([127, 0, 0, 9].into());
    assert_eq!(elsewhere.call(&line, &ten, b"").await.status, 206, "another address has its own");
    stalled.pop();
    let let_in = async { while alpha.call(&line, &ten, b"").await.status != 206 {} };
    timeout(PATIENCE, let_in).await.expect("whoever gives up makes room");
}
