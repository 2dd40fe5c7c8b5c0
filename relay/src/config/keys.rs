//! Every section and every key there is.
//!
//! The text over a key is what an administrator reads: in the file that `init` writes, in `deploy/full.toml` and
//! in `docs/configuration.md`.

use super::key::Absence::{Default, Means, Required};
use super::key::Kind::{Choice, Count, Duration, Size, Text, Texts};
use super::key::{Key, Section};

macro_rules! keys {
    ($($(#[doc = $text:literal])+ $name:ident = $path:literal, $kind:expr, $absence:expr;)*) => {
        $(
            $(#[doc = $text])+
            pub(super) const $name: Key = Key { path: $path, kind: $kind, absence: $absence, text: &[$($text),+] };
        )*

        /// Every key, in the order in which they are written.
        pub(super) static ALL: &[Key] = &[$($name),*];
    };
}

macro_rules! sections {
    ($($(#[doc = $text:literal])+ $path:literal, $list:literal;)*) => {
        /// Every section, in the order in which they are written.
        pub(super) static SECTIONS: &[Section] = &[
            $(Section { path: $path, list: $list, text: &[$($text),+] },)*
        ];
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

sections! {
    /// Who this relay is.
    "", false;
    /// Where connections are accepted. One port can serve both clients and other relays: which of the two a
    /// connection is, it says in its TLS greeting (ALPN). The two can also have ports of their own.
    "listen", false;
    /// The certificate that clients are shown. Give both files, or neither: then clients are shown the relay's own
    /// identity certificate, which is enough for clients that pin it. The port is always TLS 1.3.
    "tls", false;
    /// Certificates for clients from an authority that gives them out by itself (ACME, RFC 8555), such as Let's Encrypt: got, kept
    /// and renewed by the relay, in place of the files in `[tls]`. The authority checks each name by connecting to its
    /// port 443 (TLS-ALPN-01), where this relay has to be reached. The certificate is for the key of the
    /// relay's identity, so that clients that pin that key accept it too.
    "acme", false;
    /// Other organisations' relays.
    "federation", false;
    /// The relays that envelopes go to and come from. One entry for each.
    "federation.peers", true;
    /// How names are looked up.
    "dns", false;
    /// Who may have a mailbox here.
    "registration", false;
    /// Who may hand in envelopes here, and how fast.
    "submission", false;
    /// Clients that run in a web browser.
    "web", false;
    /// How much of anything there may be. Whatever is over a limit is refused with a reason, before memory is
    /// taken for it.
    "limits", false;
    /// How envelopes are kept on disk.
    "store", false;
    /// What is written to standard error. Up to level `info` nothing in it names a mailbox, an envelope or a
    /// client's address.
    "log", false;
}

keys! {
    /// The DNS name that identifies this relay: the part after the `@` of its addresses. Lower case, no trailing dot,
    /// international names as A-labels (`xn--…`). It names the organisation, not the host: other relays find the host
    /// through the SRV record `_postrider._tcp.<domain>`.
    ///
    /// Changing it later makes every address given out so far unreachable.
    DOMAIN = "domain", Text("domain"), Required(r#""example.org""#);
    /// The directory with the envelopes, the queue and the relay's identity. It belongs on a local disk that keeps
    /// what it has confirmed (no NFS), is backed up with the relay stopped, and is used by one process only.
    DATA_DIR = "data_dir", Text("path"), Default(r#""data""#);

    /// Addresses with port. `[::]:443` takes IPv4 connections too on most systems. Ports below 1024 need a
    /// privilege (see `deploy/postrider.service`); with another port, publish that port in the SRV record.
    LISTEN_ADDRESSES = "listen.addresses", Texts("addresses with port"), Default(r#"["[::]:443"]"#);
    /// Addresses for clients only. To keep clients and other relays apart, give both these and `federation`, and set
    /// `addresses = []`.
    LISTEN_CLIENTS = "listen.clients", Texts("addresses with port"), Default("[]");
    /// Addresses for other relays only. Their port is the one to publish in the SRV record.
    LISTEN_FEDERATION = "listen.federation", Texts("addresses with port"), Default("[]");
    /// Load balancers that pass TCP connections on to this relay, each with its address or network: the ones from which they
    /// connect. Their connections have to begin with a header of the PROXY protocol (version 1 or 2), which says where the
    /// client is: limits for each address go by that. From nobody else is such a header taken. Write the smallest network
    /// that holds them, for whoever can connect from there can say to be anybody.
    LISTEN_PROXIES = "listen.proxies", Texts("addresses or networks (CIDR)"), Default("[]");
    /// Where `/metrics` (for Prometheus), `/livez` and `/readyz` are, over HTTP without TLS: an address of the machine itself,
    /// or of a network that only those who watch the relay are on. What is told there names other relays, and no user.
    LISTEN_METRICS = "listen.metrics", Text("address with port"),
        Means("there are no metrics and no health checks over HTTP", r#""127.0.0.1:9464""#);

    /// The chain in PEM, the relay's own certificate first. It is valid for the host name that clients connect to.
    TLS_CERTIFICATE = "tls.certificate", Text("path"),
        Means("the relay's identity certificate is shown to clients", r#""tls/certificate.pem""#);
    /// The private key of that certificate, in PEM. Nobody but the relay should be able to read it.
    TLS_KEY = "tls.key", Text("path"),
        Means("the relay's identity certificate is shown to clients", r#""tls/key.pem""#);

    /// The host names that clients connect to. With none, no certificate is asked for.
    ACME_NAMES = "acme.names", Texts("names"), Default("[]");
    /// That you agree to the terms of service of the ACME server, which its operator publishes. Nothing is asked of it
    /// without.
    ACME_TERMS = "acme.terms_of_service", Text("`agreed`"),
        Means("they are not agreed to", r#""agreed""#);
    /// The directory of the ACME server. To try things out without using up the limits of Let's Encrypt:
    /// `https://acme-staging-v02.api.letsencrypt.org/directory`, whose certificates nobody trusts.
    ACME_DIRECTORY = "acme.directory", Text("URL"), Default(r#""https://acme-v02.api.letsencrypt.org/directory""#);
    /// An address at which the operator of the ACME server may reach you.
    ACME_CONTACT = "acme.contact", Text("e-mail address"),
        Means("the account has no address", r#""admin@example.org""#);
    /// The authorities that may vouch for the ACME server itself: `bundled`, `system`, or, for a server of your own, a file in
    /// PEM; as in `federation.public_roots`.
    ACME_ROOTS = "acme.roots", Text("`bundled`, `system`, or path"), Default(r#""bundled""#);
    /// `clients`: the certificate is for them alone. `everybody`: other relays are shown it too, in place of the one that the
    /// relay has made itself; the domain has to be among the names. Then relays that go by public
    /// authorities (`webpki`) believe this one. The key is the same, so nothing changes for relays that pin it or
    /// go by TLSA records.
    ACME_SHOWN_TO = "acme.shown_to", Choice(&["clients", "everybody"]), Default(r#""clients""#);

    /// `closed`: envelopes are neither sent to other relays nor taken from them. `allow-list`: only to and from the
    /// peers listed below. `open`: to and from every relay that proves its domain as `federation.unlisted_trust` says and is
    /// not in `federation.deny`; with those listed below, as their entry says.
    FEDERATION_POLICY = "federation.policy", Choice(&["closed", "allow-list", "open"]), Default(r#""closed""#);
    /// With `policy = "open"`: domains with which nothing is exchanged all the same, each with every domain below it. An
    /// entry in `[[federation.peers]]` makes an exception for a domain below.
    FEDERATION_DENY = "federation.deny", Texts("domains"), Default("[]");
    /// With `policy = "open"`: how relays that are not listed prove their domain. `public`: by the key in the domain's TLSA
    /// records where DNSSEC proves them, and by a certificate of a public authority where it proves that there are none, or
    /// that the domain is not signed; where neither can be proven, a relay waits. `dane`: by TLSA records only. `webpki`: by
    /// a certificate of a public authority only.
    FEDERATION_UNLISTED = "federation.unlisted_trust", Choice(&["public", "dane", "webpki"]), Default(r#""public""#);
    /// The public authorities, for `webpki` and `public`. `bundled`: those of Mozilla's list of the day this version was
    /// made. `system`: those of this machine, which its administrator keeps up to date. Else a file in PEM.
    FEDERATION_ROOTS = "federation.public_roots", Text("`bundled`, `system`, or path"), Default(r#""bundled""#);
    /// The certificate that proves this relay's domain to other relays, in PEM, for connections in both directions.
    /// The domain must be among its names (SAN). Peers that pin its key need to know before the key changes.
    FEDERATION_CERTIFICATE = "federation.certificate", Text("path"),
        Means("`identity/certificate.pem` in the data directory, as `init` makes it",
            r#""data/identity/certificate.pem""#);
    /// The private key of that certificate, in PEM. Nobody but the relay should be able to read it.
    FEDERATION_KEY = "federation.key", Text("path"),
        Means("`identity/key.pem` in the data directory, as `init` makes it", r#""data/identity/key.pem""#);
    /// How long the next key has to be announced before `postrider identity rotate` puts it in the current one's place.
    /// Shorter than it takes your peers to enter it, and they refuse this relay until they have.
    KEY_ANNOUNCEMENT = "federation.key_announcement", Duration(HOUR..=365 * DAY), Default(r#""14 days""#);
    /// How long one address of a peer has to accept a connection and finish the TLS handshake.
    CONNECT_TIMEOUT = "federation.connect_timeout", Duration(SECOND..=2 * MINUTE), Default(r#""10 s""#);
    /// How long a peer has to answer a batch, from the first byte sent. When it is over, the envelopes stay in the
    /// queue and are sent again; the peer recognises those that it has. Too short for a peer with a slow disk, and
    /// the same envelopes travel again and again.
    REQUEST_TIMEOUT = "federation.request_timeout", Duration(SECOND..=10 * MINUTE), Default(r#""60 s""#);
    /// How many batches may be on their way to one peer at the same time. More is faster over a long distance, and
    /// takes more memory: this number times `limits.batch_bytes` for each peer at most.
    BATCHES_IN_FLIGHT = "federation.batches_in_flight", Count(1..=64), Default("8");
    /// How many envelopes one peer may bring per second in the long run. What is more is put off (429), and comes again.
    ENVELOPES_PER_SECOND = "federation.envelopes_per_second", Count(1..=1_000_000), Default("20000");

    /// The peer's domain.
    PEER_DOMAIN = "federation.peers.domain", Text("domain"), Required(r#""beta.example""#);
    /// `out`: envelopes go there. `in`: they come from there. `both`: either.
    PEER_DIRECTION = "federation.peers.direction", Choice(&["both", "in", "out"]), Default(r#""both""#);
    /// How the peer proves that it is that domain. `pinned`: its key is one of `pins`; nothing else in its certificate
    /// counts. `private-ca`: its certificate names the domain and comes from the authority in `ca`. `dane`: its key is in
    /// the TLSA records `3 1 1` of one of its SRV targets, and DNSSEC proves them and the SRV records. `webpki`: its
    /// certificate names the domain, is meant for servers and comes from a public authority
    /// (`federation.public_roots`). The mode holds for connections in both directions, and nothing falls back to another one.
    PEER_TRUST = "federation.peers.trust", Choice(&["pinned", "private-ca", "dane", "webpki"]), Default(r#""pinned""#);
    /// SHA-256 of the peer's public key (SPKI), 64 hexadecimal digits. For `trust = "pinned"`: the current key, and before
    /// a change also the next one. The peer's administrator reads it off `postrider check-config` and tells it over another
    /// channel.
    PEER_PINS = "federation.peers.pins", Texts("SHA-256 fingerprints"),
        Means("no key is pinned", r#"["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]"#);
    /// The certificate authority's certificates, in PEM. For `trust = "private-ca"`. It can vouch for this peer's domain
    /// only, whatever else it issues.
    PEER_CA = "federation.peers.ca", Text("path"), Means("no authority is trusted", r#""peers/gamma-ca.pem""#);
    /// Fixed addresses of the peer, with port, tried in this order instead of looking up its SRV record. They need not
    /// be in `dns.allow_networks`. When the peer moves, somebody has to change them here.
    PEER_ADDRESSES = "federation.peers.addresses", Texts("addresses with port"),
        Means("the peer is found through its SRV record", r#"["192.0.2.1:443"]"#);
    /// How many batches may be on their way to this peer, and from it, at the same time. On the way to it never more than
    /// `federation.batches_in_flight`.
    PEER_IN_FLIGHT = "federation.peers.batches_in_flight", Count(1..=64),
        Means("as for all peers", "8");
    /// Like `federation.envelopes_per_second`, for this peer.
    PEER_RATE = "federation.peers.envelopes_per_second", Count(1..=1_000_000),
        Means("as for all peers", "20000");

    /// DNS servers to ask: an address, with a port if it is not 53. An empty list stands for those of the system
    /// (`/etc/resolv.conf`).
    DNS_SERVERS = "dns.servers", Texts("addresses, port optional"), Default("[]");
    /// Networks that a peer's SRV record may lead to although they are not public: loopback, private and
    /// link-local addresses are refused otherwise, so that nobody's DNS can point this relay at your own machines.
    /// Write the smallest network that holds the peers.
    DNS_ALLOW_NETWORKS = "dns.allow_networks", Texts("networks (CIDR)"), Default("[]");
    /// Hosts whose addresses are not looked up, each as `name=address`; a host with several addresses has several entries.
    /// For tests and private networks: they need not be in `dns.allow_networks`. SRV records are looked up all the same
    /// (`federation.peers.addresses` does without).
    DNS_HOSTS = "dns.hosts", Texts("host=address"), Default("[]");
    /// `auto`: signatures are checked here, as soon as the DNS servers pass them on. That is made sure of at the start and
    /// every five minutes, and the log says when it changes; behind servers that strip signatures nobody is proven by `dane`
    /// or `public`. `off`: never.
    DNS_DNSSEC = "dns.dnssec", Choice(&["auto", "off"]), Default(r#""auto""#);
    /// A file with the keys that checking begins at, as DNSKEY records in a zone file's form. They stand in place of the
    /// root's: for a private root.
    DNS_TRUST_ANCHOR = "dns.trust_anchor", Text("path"), Means("the keys of the root of the public DNS", r#""dns/root.key""#);

    /// `invite`: whoever has an invite may register a mailbox; `postrider invite create` makes them. `closed`: nobody may by
    /// themselves; an administrator makes each mailbox. `open`: everybody who can connect may. Whoever has a mailbox
    /// stays registered when this changes, and may always add devices to it.
    REGISTRATION_POLICY = "registration.policy", Choice(&["open", "invite", "closed"]), Default(r#""invite""#);

    /// `members`: whoever has a mailbox here may hand in envelopes and attachments, to anybody. For that they sign in: the relay sees, in
    /// the moment of the submission, which of its mailboxes it comes from; it neither keeps nor logs that. `open`: everybody
    /// who can connect may, without saying who they are. Then the relay learns nothing of who sends, and strangers may
    /// write through it to whoever it federates with, as far as the rates allow.
    SUBMISSION_POLICY = "submission.policy", Choice(&["open", "members"]), Default(r#""members""#);
    /// Envelopes that one client address may hand in per second in the long run. An IPv6 /64 counts as one address.
    /// An office behind one address shares this; too low, and its people are told to wait (429).
    SUBMISSION_RATE = "submission.rate_per_second", Count(1..=1_000_000), Default("200");
    /// Envelopes that one client address may hand in at once after a quiet time. At least
    /// `limits.batch_envelopes`, or a full batch could never pass.
    SUBMISSION_BURST = "submission.burst", Count(1..=10_000_000), Default("1000");
    /// With `policy = "members"`: envelopes that one mailbox's owner may hand in per second in the long run.
    SUBMISSION_MEMBER_RATE = "submission.member_rate_per_second", Count(1..=1_000_000), Default("20");
    /// With `policy = "members"`: envelopes that one mailbox's owner may hand in at once after a quiet time. At least
    /// `limits.batch_envelopes`.
    SUBMISSION_MEMBER_BURST = "submission.member_burst", Count(1..=10_000_000), Default("1000");

    /// Bytes of attachments that one client address may bring per second in the long run; half a minute's worth may come
    /// at once.
    SUBMISSION_UPLOAD = "submission.upload_per_second", Size(64 * KIB..=64 * GIB), Default(r#""32 MiB""#);

    /// Origins of web pages that may call this relay from a browser, such as `https://chat.example.org`; `"*"` stands for all.
    /// Whoever can change such a page can use the keys of its users. Programs that are no browsers are not concerned.
    WEB_ORIGINS = "web.allowed_origins", Texts("origins"), Default("[]");

    /// The largest body of an envelope. Clients and other relays learn it, and what is larger is refused for good.
    LIMIT_BODY = "limits.body", Size(KIB..=1000 * KIB), Default(r#""128 KiB""#);
    /// The largest header of an envelope.
    LIMIT_HEADER = "limits.header", Size(64..=16 * KIB), Default(r#""1 KiB""#);
    /// The most envelopes in one request, from a client or a peer.
    LIMIT_BATCH_ENVELOPES = "limits.batch_envelopes", Count(1..=1024), Default("256");
    /// The largest request with envelopes. It has room for at least one envelope of the largest size.
    LIMIT_BATCH_BYTES = "limits.batch_bytes", Size(4 * KIB..=8 * MIB), Default(r#""4 MiB""#);
    /// How far ahead an envelope may expire: how long a device may stay away without missing anything.
    LIMIT_LIFETIME = "limits.lifetime", Duration(HOUR..=60 * DAY), Default(r#""30 days""#);
    /// The most envelopes that wait in one mailbox. A full mailbox takes no more until its devices have fetched some;
    /// senders try again.
    LIMIT_MAILBOX_ENTRIES = "limits.mailbox_entries", Count(1..=10_000_000), Default("10000");
    /// The most bytes that wait in one mailbox.
    LIMIT_MAILBOX_BYTES = "limits.mailbox_bytes", Size(4 * KIB..=64 * GIB), Default(r#""256 MiB""#);
    /// The largest attachment. Clients and other relays learn it. Where it is raised, the relays that attachments go to
    /// have to take as much.
    LIMIT_ATTACHMENT = "limits.attachment", Size(KIB..=64 * GIB), Default(r#""100 MiB""#);
    /// The most bytes of attachments that wait in one mailbox, beside the envelopes.
    LIMIT_MAILBOX_ATTACHMENTS = "limits.mailbox_attachments", Size(KIB..=64 * 1024 * GIB), Default(r#""2 GiB""#);
    /// The most bytes of all attachments: those that wait in mailboxes, for other relays, or to be submitted. They are
    /// files in `attachments/` in the data directory.
    LIMIT_ATTACHMENTS = "limits.attachments", Size(KIB..=64 * 1024 * GIB), Default(r#""16 GiB""#);
    /// How long an attachment is kept that no envelope has been submitted with, from the last chunk that arrived: how long
    /// an interrupted transfer can be taken up again.
    LIMIT_ATTACHMENT_RETENTION = "limits.attachment_retention", Duration(MINUTE..=7 * DAY), Default(r#""24 h""#);
    /// The most devices of one mailbox.
    LIMIT_DEVICES = "limits.devices", Count(1..=64), Default("16");
    /// How long a device may be away before it is removed from its mailbox, with what waits for it. Its owner sees the day in
    /// the list of their devices. Shorter than a long holiday, and people lose messages that came for that device alone.
    LIMIT_DEVICE_IDLE = "limits.device_idle", Duration(7 * DAY..=3650 * DAY), Default(r#""90 days""#);
    /// The most envelopes that wait for one other relay. When the queue is full, further ones are refused at once.
    LIMIT_QUEUE_ENVELOPES = "limits.queue_envelopes", Count(1..=100_000_000), Default("1000000");
    /// The most bytes that wait for one other relay.
    LIMIT_QUEUE_BYTES = "limits.queue_bytes", Size(4 * KIB..=1024 * GIB), Default(r#""4 GiB""#);
    /// How long an envelope that arrives a second time is recognised. Shorter than a peer's outage, and a message
    /// whose confirmation was lost in it may arrive twice. Longer than `limits.lifetime` only takes space.
    LIMIT_MARK_RETENTION = "limits.mark_retention", Duration(HOUR..=60 * DAY), Default(r#""7 days""#);
    /// How long a sender can ask what became of an envelope, after it was delivered or has failed. Shorter than
    /// `limits.mark_retention`, and one that was fetched before its mailbox moved may arrive twice if it is submitted again later.
    LIMIT_TRACKING_RETENTION = "limits.tracking_retention", Duration(MINUTE..=60 * DAY), Default(r#""7 days""#);
    /// The largest head of an HTTP request.
    LIMIT_REQUEST_HEADER = "limits.request_header_bytes", Size(8 * KIB..=64 * KIB), Default(r#""8 KiB""#);
    /// How long a client has to send the head of a request.
    LIMIT_HEADER_TIMEOUT = "limits.header_timeout", Duration(SECOND..=5 * MINUTE), Default(r#""10 s""#);
    /// How long a client has to send the body of a request, and how long it may take nothing of an attachment that it
    /// has asked for. Too short, and people on slow networks cannot send large batches.
    LIMIT_BODY_TIMEOUT = "limits.body_timeout", Duration(SECOND..=10 * MINUTE), Default(r#""30 s""#);
    /// How long a connection has to finish its TLS handshake.
    LIMIT_HANDSHAKE_TIMEOUT = "limits.tls_handshake_timeout", Duration(SECOND..=2 * MINUTE), Default(r#""10 s""#);
    /// The most connections at the same time. Each takes one file descriptor: keep the process's limit
    /// (`LimitNOFILE`) well above it.
    LIMIT_CONNECTIONS = "limits.connections", Count(16..=1_000_000), Default("20000");
    /// The most connections from one client address at the same time. An IPv6 /64 counts as one address, and so does
    /// an office behind one.
    LIMIT_CONNECTIONS_PER_IP = "limits.connections_per_ip", Count(1..=1_000_000), Default("2000");
    /// The most of them that are only beginning: a client's before a request of it was granted, another relay's before the
    /// end of the TLS handshake. Connections that never come to anything do not keep others out.
    LIMIT_BEGINNING_PER_IP =
        "limits.beginning_connections_per_ip", Count(1..=1_000_000), Default("64");
    /// How long a device has to sign the challenge with which it proves that a mailbox is its own.
    LIMIT_CHALLENGE_LIFETIME = "limits.challenge_lifetime", Duration(5 * SECOND..=10 * MINUTE), Default(r#""60 s""#);
    /// How long a device stays signed in. After that it proves itself again, without its user noticing.
    LIMIT_SESSION_LIFETIME = "limits.session_lifetime", Duration(MINUTE..=30 * DAY), Default(r#""24 h""#);
    /// How long requests and deliveries in progress have to end when the relay is stopped. The service manager's own
    /// patience (`TimeoutStopSec`) has to be longer.
    LIMIT_DRAIN_TIMEOUT = "limits.drain_timeout", Duration(SECOND..=10 * MINUTE), Default(r#""30 s""#);
    /// How many entries a device may be sent before it acknowledges any.
    LIMIT_STREAM_ENTRIES = "limits.stream_window_entries", Count(1..=1024), Default("256");
    /// How many bytes a device may be sent before it acknowledges any. An entry larger than this is sent alone.
    LIMIT_STREAM_BYTES = "limits.stream_window_bytes", Size(4 * KIB..=4 * MIB), Default(r#""4 MiB""#);
    /// The longest that a request for entries waits for one to arrive. Proxies between clients and the relay must
    /// let a request stand for longer than this.
    LIMIT_LONG_POLL = "limits.long_poll_wait", Duration(SECOND..=10 * MINUTE), Default(r#""60 s""#);

    /// Memory for what was read from or written to disk lately.
    STORE_CACHE = "store.cache", Size(8 * MIB..=1024 * GIB), Default(r#""32 MiB""#);
    /// Free space that is left on the disk of the data directory. Below it no new envelopes are taken, while
    /// fetching and deleting still work. Too small, and a full disk can keep the store from opening.
    STORE_RESERVE = "store.reserve", Size(16 * MIB..=1024 * GIB), Default(r#""256 MiB""#);

    /// `text`: lines for people. `json`: one object per line, for a log collector.
    LOG_FORMAT = "log.format", Choice(&["text", "json"]), Default(r#""text""#);
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, and for single parts of the program
    /// `target=level`, separated by commas, such as `info,postrider::delivery=debug`. From `debug` on, logs hold mailbox
    /// ids and client addresses: turn it on for a short time, and delete what it wrote.
    LOG_LEVEL = "log.level", Text("log filter"), Default(r#""info""#);
}
