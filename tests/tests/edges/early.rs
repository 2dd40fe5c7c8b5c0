//! Answers that are given before the request has come to its end.

use postrider_tests::cluster::Cluster;
use sha2::{Digest, Sha256};

use crate::raw::{ALPHA, Answer, Target, head, say};

/// More than the system takes in of what nobody reads.
const MUCH: u32 = 12 << 20;

#[tokio::test]
async fn whoever_sends_on_after_an_early_answer_gets_it() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let relay = cluster.client(ALPHA).unwrap();
    let chunk = vec![7; MUCH as usize];
    let attachment = relay.reserve_attachment(MUCH.into(), MUCH).await.unwrap();
    relay.put_chunk(attachment.id, 0, chunk.clone().into()).await.unwrap();
    let digest = postrider_common::wire::attachments::content_digest(&Sha256::digest(&chunk).into());
    let alpha = Target::of(&cluster, ALPHA).await;
    let there = format!("PUT /v1/attachments/{}/chunks/0", attachment.id);
    let there = (there.as_str(), ("content-digest", digest.as_str()));
    let envelopes = ("content-type", postrider_common::wire::CONTENT_TYPE);
    for ((line, header), status) in [
        (there, 204),
        (("POST /v1/envelopes", envelopes), 413),
        (("PUT /v1/mailbox", envelopes), 401),
        (("POST /v1/nothing", envelopes), 404),
    ] {
        let answer = alpha.call(line, &[header], &chunk).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{line}: {answer:?}");
    }
}

#[tokio::test]
async fn only_a_body_that_was_not_read_costs_the_connection() {
    let cluster = Cluster::start([ALPHA]).await.unwrap();
    let mut stream = Target::of(&cluster, ALPHA).await.tls("http/1.1").await;
    let json = ("content-type", "application/json");
    for (line, header, status, connection) in
        [("POST /v1/sessions", json, 400, None), ("GET /v1/nothing", json, 404, Some("close"))]
    {
        let request = [&head(line, &[header, ("content-length", "4")])[..], b"body"].concat();
        say(&mut stream, &request).await.unwrap();
        let answer = Answer::read(&mut stream).await.expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (status, connection), "{answer:?}");
    }
}
