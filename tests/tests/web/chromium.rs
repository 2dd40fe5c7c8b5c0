//! Chromium without a window, driven through its DevTools protocol.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use data_encoding::BASE64;
use futures_util::{SinkExt, StreamExt};
use postrider_tests::cluster::PATIENCE;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

const PROGRAMS: [&str; 2] = ["chromium", "google-chrome"];

/// A browser with a profile of its own, which ends when it is dropped.
pub(crate) struct Browser {
    wire: Mutex<Wire>,
    _process: Child,
    _profile: TempDir,
}

/// One tab, which shares nothing with others: as if it were another person's browser.
pub(crate) struct Page<'a> {
    browser: &'a Browser,
    session: String,
}

struct Wire {
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
}

/// A browser's program, if one is installed. If not, it says so, or fails where there must be one.
pub(crate) fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<_> = std::env::split_paths(&path).collect();
    let found = PROGRAMS.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    let found = found.into_iter().find(|program| program.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("POSTRIDER_REQUIRE_BROWSER").is_none(),
            "chromium is not installed, and the environment says that it has to be"
        );
        // Past the test runner, which keeps what passing tests print to itself.
        let _ = writeln!(std::io::stderr(), "skipped: chromium is not installed");
    }
    found
}

impl Browser {
    /// Starts it. Every host is this machine, and certificates with these keys (SHA-256) are taken for good.
    pub(crate) async fn start(program: PathBuf, keys: &[[u8; 32]]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let keys: Vec<_> = keys.iter().map(|key| BASE64.encode(key)).collect();
        let mut process = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            .arg("--host-resolver-rules=MAP *.example 127.0.0.1")
            .arg(format!("--ignore-certificate-errors-spki-list={}", keys.join(",")))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = async {
            while let Some(line) = said.next_line().await.unwrap() {
                if let Some(url) = line.strip_prefix("DevTools listening on ") {
                    return url.to_owned();
                }
            }
            panic!("the browser has ended");
        };
        let url = timeout(PATIENCE, listening).await.expect("the browser starts");
        let host = url.trim_start_matches("ws://").split('/').next().unwrap();
        let stream = TcpStream::connect(host).await.unwrap();
        let (socket, _) = client_async(&url, stream).await.unwrap();
        Self { wire: Mutex::new(Wire { socket, last_id: 0 }), _process: process, _profile: profile }
    }

    /// Opens a page in a tab of its own, and returns when it is loaded.
    pub(crate) async fn open(&self, url: &str) -> Page<'_> {
        let context = self.call(None, "Target.createBrowserContext", json!({})).await;
        let blank = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = self.call(None, "Target.createTarget", blank).await;
        let flat = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", flat).await;
        let page = Page { browser: self, session: attached["sessionId"].as_str().unwrap().to_owned() };
        page.call("Page.enable", json!({})).await;
        page.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await;
        page.loads("Page.navigate", json!({ "url": url })).await;
        page
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let mut wire = self.wire.lock().await;
        let id = wire.send(session, method, params).await;
        let answer = wire.until(|message| message["id"] == id).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }
}

impl Page<'_> {
    /// The value of an expression, once it is not `null`, `false` or empty. It is looked at whenever the page changes.
    pub(crate) async fn wait(&self, expression: &str) -> Value {
        let waiting = format!(
            "new Promise((resolve) => {{
                const look = () => {{
                    const value = (() => {{ try {{ return {expression}; }} catch {{ return null; }} }})();
                    if (value) {{ observer.disconnect(); resolve(value); }}
                }};
                const observer = new MutationObserver(look);
                const all = {{ subtree: true, childList: true, attributes: true, characterData: true }};
                observer.observe(document, all);
                look();
            }})"
        );
        timeout(PATIENCE, self.run(&waiting))
            .await
            .unwrap_or_else(|_| panic!("{expression} does not come true"))
    }

    /// Runs JavaScript, waits for its promise if it is one, and returns its value.
    pub(crate) async fn run(&self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", wanted).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Types into a field, and sends its form.
    pub(crate) async fn submit(&self, field: &str, text: &str) {
        let text = Value::from(text);
        self.run(&format!("document.querySelector('{field}').value = {text}; document.querySelector('{field}').form.requestSubmit()"))
            .await;
    }

    pub(crate) async fn reload(&self) {
        self.loads("Page.reload", json!({})).await;
    }

    /// Leaves pictures of the page, light and dark, wide and narrow, if somebody wants to look at them.
    pub(crate) async fn pictures(&self, name: &str) {
        let Some(directory) = std::env::var_os("POSTRIDER_SCREENSHOTS").map(PathBuf::from) else { return };
        for (width, height, size) in [(1200, 800, "wide"), (390, 844, "narrow")] {
            let metrics =
                json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            self.call("Emulation.setDeviceMetricsOverride", metrics).await;
            for colours in ["light", "dark"] {
                let features = json!([{ "name": "prefers-color-scheme", "value": colours }]);
                self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
                let shot = self.call("Page.captureScreenshot", json!({})).await;
                let picture = BASE64.decode(shot["data"].as_str().unwrap().as_bytes()).unwrap();
                std::fs::write(directory.join(format!("{name}-{size}-{colours}.png")), picture).unwrap();
            }
        }
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params).await
    }

    async fn loads(&self, method: &str, params: Value) {
        let mut wire = self.browser.wire.lock().await;
        wire.send(Some(&self.session), method, params).await;
        let session = Value::from(self.session.as_str());
        wire.until(|message| message["method"] == "Page.loadEventFired" && message["sessionId"] == session)
            .await;
    }
}

impl Wire {
    async fn send(&mut self, session: Option<&str>, method: &str, params: Value) -> u64 {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.socket.send(Message::text(message.to_string())).await.unwrap();
        self.last_id
    }

    /// Reads until a message is the one that is awaited; the others are events that nobody waits for.
    async fn until(&mut self, is_awaited: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("the browser answers");
            let message = message.expect("the browser has not ended").unwrap();
            let Ok(text) = message.to_text() else { continue };
            let message: Value = serde_json::from_str(text).unwrap_or_default();
            if is_awaited(&message) {
                return message;
            }
        }
    }
}
