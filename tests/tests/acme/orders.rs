//! What becomes of an order (RFC 8555 section 7): names, challenges, and the certificate.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use http::{Response, StatusCode};
use http_body_util::Full;
use rand::RngExt;
use serde_json::json;

use super::answers::{Answer, about_problem, plain, problem, with};
use super::{Order, Shared};
use crate::bench::DAY;
use crate::check::check;
use crate::signed::{CertificateRequest, Key, Signed};

impl Shared {
    pub(super) fn order(&self, account: usize, signed: &Signed) -> Answer {
        let mut state = self.state();
        if let Some(after) = state.troubles.rate_limit {
            let refusal = problem(429, "rateLimited", "too many new orders recently");
            return with(refusal, "retry-after", after);
        }
        let payload = signed.payload.clone().unwrap_or_default();
        let identifiers = payload["identifiers"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> = identifiers
            .iter()
            .filter(|identifier| identifier["type"] == "dns")
            .filter_map(|identifier| identifier["value"].as_str().map(str::to_owned))
            .collect();
        if names.is_empty() || names.len() != identifiers.len() {
            return problem(400, "malformed", "an order is for names");
        }
        let token = || BASE64URL_NOPAD.encode(&rand::rng().random::<[u8; 24]>());
        let busy = state.troubles.busy.0;
        state.orders.push(Order {
            account,
            tokens: names.iter().map(|_| token()).collect(),
            checks: vec![None; names.len()],
            names,
            replaces: payload["replaces"].as_str().map(str::to_owned),
            busy,
            chain: None,
        });
        let id = state.orders.len() - 1;
        drop(state);
        let location = self.url(&format!("/order/{id}"));
        with(self.about(id, account, true), "location", &location)
    }

    /// An order as it stands.
    pub(super) fn about(&self, id: usize, account: usize, is_new: bool) -> Answer {
        let mut state = self.state();
        let after = state.troubles.busy.1;
        let Some(order) = state.orders.get_mut(id).filter(|order| order.account == account) else {
            return problem(404, "malformed", "there is no such order");
        };
        let all = |wanted: fn(&Option<Result<(), String>>) -> bool| order.checks.iter().all(wanted);
        let status = if order.checks.iter().any(|check| matches!(check, Some(Err(_)))) {
            "invalid"
        } else if !all(|check| matches!(check, Some(Ok(())))) {
            "pending"
        } else if order.chain.is_none() {
            "ready"
        } else if order.busy > 0 {
            order.busy -= 1;
            "processing"
        } else {
            "valid"
        };
        let urls = |kind: &str| -> Vec<String> {
            (0..order.names.len()).map(|index| self.url(&format!("/{kind}/{id}/{index}"))).collect()
        };
        let mut about = json!({
            "status": status,
            "identifiers": order.names.iter().map(|name| json!({"type": "dns", "value": name})).collect::<Vec<_>>(),
            "authorizations": urls("authorization"),
            "finalize": self.url(&format!("/finalize/{id}")),
        });
        if status == "valid" {
            about["certificate"] = self.url(&format!("/certificate/{id}")).into();
        }
        if let Some(replaces) = &order.replaces {
            about["replaces"] = replaces.clone().into();
        }
        let answer = plain(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &about);
        if status == "processing" && after > 0 {
            with(answer, "retry-after", &after.to_string())
        } else {
            answer
        }
    }

    pub(super) fn authorization(&self, id: usize, index: usize, account: usize) -> Answer {
        let state = self.state();
        let Some(order) = state.orders.get(id).filter(|order| order.account == account) else {
            return problem(404, "malformed", "there is no such order");
        };
        let (status, error) = match &order.checks[index] {
            None => ("pending", None),
            Some(Ok(())) => ("valid", None),
            Some(Err(reason)) => ("invalid", Some(about_problem(403, "unauthorized", reason))),
        };
        let challenge = json!({
            "type": "tls-alpn-01",
            "url": self.url(&format!("/challenge/{id}/{index}")),
            "token": order.tokens[index],
            "status": status,
            "error": error,
        });
        let other = json!({
            "type": "dns-01",
            "url": self.url("/challenge/none"),
            "token": "other",
            "status": "pending",
        });
        plain(
            StatusCode::OK,
            &json!({
                "identifier": { "type": "dns", "value": order.names[index] },
                "status": status,
                "challenges": [other, challenge],
            }),
        )
    }

    pub(super) async fn challenge(&self, id: usize, index: usize, account: usize, key: &Key) -> Answer {
        let (name, token, host, trouble) = {
            let state = self.state();
            let Some(order) = state.orders.get(id).filter(|order| order.account == account) else {
                return problem(404, "malformed", "there is no such order");
            };
            (order.names[index].clone(), order.tokens[index].clone(), state.host, state.troubles.check)
        };
        let found = match (trouble, host) {
            (Some(trouble), _) => Err(trouble.to_owned()),
            (None, None) => Err(format!("{name} leads nowhere")),
            (None, Some(host)) => check(host, &name, &format!("{token}.{}", key.thumbprint())).await,
        };
        self.state().orders[id].checks[index] = Some(found);
        let url = self.url(&format!("/challenge/{id}/{index}"));
        let about = json!({ "type": "tls-alpn-01", "url": url, "token": token, "status": "processing" });
        plain(StatusCode::OK, &about)
    }

    pub(super) fn finalize(&self, id: usize, account: usize, signed: &Signed) -> Answer {
        let request = signed.payload.as_ref().and_then(CertificateRequest::read);
        let Some(request) = request else { return problem(400, "badCSR", "that is no request") };
        {
            let mut state = self.state();
            let life = state.life.unwrap_or(90 * DAY);
            let now = self.clock.now();
            let Some(order) = state.orders.get_mut(id).filter(|order| order.account == account) else {
                return problem(404, "malformed", "there is no such order");
            };
            if !order.checks.iter().all(|check| matches!(check, Some(Ok(())))) {
                return problem(403, "orderNotReady", "the names are not proven");
            }
            if request.names != order.names {
                return problem(400, "badCSR", "the request is for other names");
            }
            order.chain = Some(self.issuer.issue(&request, (now - Duration::from_secs(3600), now + life)));
        }
        self.about(id, account, false)
    }

    pub(super) fn certificate(&self, id: usize, account: usize) -> Answer {
        let state = self.state();
        let order = state.orders.get(id).filter(|order| order.account == account && order.busy == 0);
        let Some(chain) = order.and_then(|order| order.chain.clone()) else {
            return problem(404, "malformed", "there is no such certificate");
        };
        let answer = Response::builder().header("content-type", "application/pem-certificate-chain");
        answer.body(Full::from(chain)).unwrap()
    }
}
