//! The way through a SOCKS5 proxy: a small real one, which connects and passes bytes on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use postrider_client::{Delivery, Error, Proxy};
use postrider_common::supervisor::Supervisor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::calls::{entry, identity};
use super::server::{HOST, Server, Step};

/// What the proxy does, and what it was asked.
#[derive(Debug, Clone)]
struct Rules {
    /// Where it really connects to, whatever name it is given.
    target: SocketAddr,
    login: Option<(&'static str, &'static str)>,
    /// What it answers a request with; 0 connects.
    reply: u8,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Socks {
    address: SocketAddr,
    tasks: Supervisor,
}

impl Socks {
    async fn start(rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Supervisor::new());
        let (owner, stopping) = (tasks.clone(), tasks.stopping());
        tasks.spawn("proxy", async move {
            tokio::pin!(stopping);
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, rules) = (accepted.unwrap().0, rules.clone());
                        // A client that goes away half-way ends it.
                        owner.spawn("proxied", async move { drop(pass(stream, rules).await) });
                    }
                    () = &mut stopping => return,
                }
            }
        });
        Self { address, tasks }
    }

    fn url(&self, login: &str) -> Proxy {
        format!("socks5://{login}{}", self.address).parse().unwrap()
    }
}

impl Drop for Socks {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// RFC 1928 as a server.
async fn pass(mut client: TcpStream, rules: Rules) -> std::io::Result<()> {
    assert_eq!(client.read_u8().await?, 5);
    let mut methods = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut methods).await?;
    let wanted = if rules.login.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, wanted]).await?;
    if let Some((user, password)) = rules.login {
        assert_eq!(client.read_u8().await?, 1);
        let given = (text(&mut client).await?, text(&mut client).await?);
        let is_right = given == (user.to_owned(), password.to_owned());
        client.write_all(&[1, u8::from(!is_right)]).await?;
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    assert_eq!(head[..3], [5, 1, 0], "connect");
    let host = match head[3] {
        1 => std::net::Ipv4Addr::from(client.read_u32().await?).to_string(),
        3 => text(&mut client).await?,
        4 => std::net::Ipv6Addr::from(client.read_u128().await?).to_string(),
        other => panic!("address type {other}"),
    };
    let port = client.read_u16().await?;
    rules.asked.lock().unwrap().push(format!("{host}:{port}"));
    if rules.reply != 0 {
        return client.write_all(&[5, rules.reply, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    }
    let mut relay = TcpStream::connect(rules.target).await?;
    // A name as its own address: of a length that the client has to read.
    client.write_all(b"\x05\x00\x00\x03\x05proxy\x00\x01").await?;
    copy_bidirectional(&mut client, &mut relay).await.map(drop)
}

async fn text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).unwrap())
}

fn rules(server: &Server) -> Rules {
    Rules { target: server.address, login: None, reply: 0, asked: Arc::default() }
}

#[tokio::test]
async fn everything_goes_through_the_proxy_which_looks_the_name_up() {
    let server = Server::start().await;
    server.script(vec![Step::Push(vec![entry(1)])]);
    let rules = rules(&server);
    let asked = Arc::clone(&rules.asked);
    let socks = Socks::start(rules).await;
    let builder = postrider_client::Relay::builder(format!("https://{HOST}:8443")).pinned(server.pin);
    let relay = builder.proxy(socks.url("")).build().unwrap();
    // The name is in no DNS, so that whoever looked it up here would not get far.
    relay.info().await.unwrap();
    let mut stream = relay.session(&identity()).await.unwrap().stream().await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(Delivery::Entry(_)))));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, [format!("{HOST}:8443"), format!("{HOST}:8443")], "requests, and the stream");
}

#[tokio::test]
async fn a_fixed_address_is_what_the_proxy_is_asked_for() {
    let server = Server::start().await;
    let rules = rules(&server);
    let asked = Arc::clone(&rules.asked);
    let socks = Socks::start(rules).await;
    server.relay().proxy(socks.url("")).build().unwrap().info().await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [server.address.to_string()]);
}

#[tokio::test]
async fn a_login_is_shown_where_it_is_wanted() {
    let server = Server::start().await;
    let with_login = Socks::start(Rules { login: Some(("me", "secret")), ..rules(&server) }).await;
    let without = Socks::start(rules(&server)).await;
    let info = async |proxy: Proxy| server.relay().proxy(proxy).build().unwrap().info().await;
    info(with_login.url("me:secret@")).await.unwrap();
    for (proxy, why) in [
        (with_login.url("me:wrong@"), "refuses the user or the password"),
        (with_login.url(""), "wants a user and a password"),
        (without.url("me:secret@"), "takes no user and password"),
    ] {
        let error = info(proxy).await.unwrap_err();
        assert!(error.to_string().contains(why) && !error.is_retryable(), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}

#[tokio::test]
async fn whether_to_try_again_is_what_the_proxy_says() {
    let server = Server::start().await;
    for (reply, is_retryable) in
        [(1, true), (2, false), (3, true), (4, true), (5, true), (6, true), (7, false), (8, false)]
    {
        let socks = Socks::start(Rules { reply, ..rules(&server) }).await;
        let error = server.relay().proxy(socks.url("")).build().unwrap().info().await.unwrap_err();
        assert!(matches!(error, Error::Proxy { .. }), "{error}");
        assert_eq!(error.is_retryable(), is_retryable, "{reply}: {error}");
    }
    let gone = Socks::start(rules(&server)).await.url("");
    let error = server.relay().proxy(gone).build().unwrap().info().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

/// The key is checked at the relay's end of the proxy.
#[tokio::test]
async fn a_proxy_that_leads_elsewhere_is_noticed() {
    let (server, other) = (Server::start().await, Server::start().await);
    let socks = Socks::start(rules(&other)).await;
    let error = server.relay().proxy(socks.url("")).build().unwrap().info().await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
}
