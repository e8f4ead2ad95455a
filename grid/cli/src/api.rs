//! Requests to the gateways over HTTP.
//!
//! A request goes to the gateway that answered last and moves on to the next when that one is away.
//! What changes something carries an idempotency key from its first attempt on, so that trying again
//! is safe.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway::{AdminToken, IdentityKey, TokenOrder};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::Failure;

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an operator's order may take, a little longer than a gateway waits for it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(130);
/// How long a request is tried while the grid is there but not ready for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is tried while no gateway answers at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a token for one request is good.
const TOKEN_LIFE_S: u64 = 120;
/// Addresses for operators.
const ADMIN_PATHS: &str = "/admin/";
/// Entries of a page.
const PAGE_LIMIT: usize = 1_000;

/// Money on the wire.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Money {
    /// A decimal string.
    pub(crate) amount: String,
    /// Its currency's code.
    pub(crate) currency: String,
}

impl Money {
    /// As minor units.
    pub(crate) fn minor(&self) -> anyhow::Result<i64> {
        processing_unit::Currency::from_code(&self.currency)
            .and_then(|currency| currency.parse_amount(&self.amount).ok())
            .ok_or_else(|| anyhow::anyhow!("the gateway sent no amount: {self}"))
    }
}

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// The system's clock, in seconds since the Unix epoch.
pub(crate) fn now_s() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

/// A list's page.
#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// A problem document.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    /// The protocol's code.
    pub(crate) code: String,
    /// In words.
    pub(crate) detail: String,
}

/// A request to whichever gateway answers.
struct Request<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a [u8]>,
    key: Option<&'a str>,
    /// Of one attempt.
    timeout: Duration,
}

/// Why one gateway gave no good answer.
#[derive(Debug)]
pub(crate) enum AskError {
    /// Something listens there and does not answer in time.
    Silent(String),
    /// Nothing listens there, or no gateway does.
    Refused(String),
    /// It answered and said no.
    Denied {
        /// HTTP's number for it.
        status: u16,
        /// Why.
        problem: Problem,
    },
}

/// What one attempt came to, when it did not succeed.
enum Attempt {
    /// Nobody there.
    Away(String),
    /// The grid asks to try again.
    Later(Problem),
    Refused(Problem),
}

/// A client of all gateways.
#[derive(Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    gateways: Vec<String>,
    current: AtomicUsize,
    user: Uuid,
    admin_token: Option<AdminToken>,
    identity_key: Option<IdentityKey>,
}

impl Api {
    /// Acts as `user`, a manager.
    pub(crate) fn new(gateways: Vec<String>, user: Uuid) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            http,
            gateways,
            current: AtomicUsize::new(0),
            user,
            admin_token: None,
            identity_key: None,
        })
    }

    /// Shows the token where admin addresses are asked, and nowhere else.
    pub(crate) fn with_admin_token(mut self, token: Option<AdminToken>) -> Self {
        self.admin_token = token;
        self
    }

    /// Signs a token for each request, for gateways that want one.
    pub(crate) fn with_identity_key(mut self, key: Option<IdentityKey>) -> Self {
        self.identity_key = key;
        self
    }

    /// Where requests may go.
    pub(crate) fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// Reads something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.request(Request {
            method: Method::GET,
            path,
            body: None,
            key: None,
            timeout: ATTEMPT_TIMEOUT,
        })
        .await
    }

    /// Reads a list to its end. `path` has no query yet, or ends with one.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        let separator = if path.contains('?') { '&' } else { '?' };
        loop {
            let mut page = format!("{path}{separator}limit={PAGE_LIMIT}");
            if let Some(after) = &after {
                page.push_str("&after=");
                page.push_str(after);
            }
            let page: Page<T> = self.get(&page).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// Does something, once. Without a key one is made up.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<&str>,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        let random = random_uuid()?.to_string();
        self.request(Request {
            method: Method::POST,
            path,
            body: Some(&body),
            key: Some(key.unwrap_or(&random)),
            timeout: ATTEMPT_TIMEOUT,
        })
        .await
    }

    /// Has an operator's order carried out, which may take minutes. Doing it again does no harm.
    pub(crate) async fn operate<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        let order = Request {
            method: Method::POST,
            path,
            body: Some(&body),
            key: None,
            timeout: OPERATION_TIMEOUT,
        };
        self.request(order).await
    }

    /// Asks one gateway, once.
    pub(crate) async fn ask_one<T: DeserializeOwned>(
        &self,
        gateway: &str,
        path: &str,
        timeout: Duration,
    ) -> Result<T, AskError> {
        let asking = self.prepare(Method::GET, gateway, path).timeout(timeout);
        let text = answer(asking.send().await, gateway, path).await?;
        serde_json::from_slice(&text)
            .map_err(|error| AskError::Refused(format!("it answered something else: {error}")))
    }

    /// Begins to fetch something large from one gateway. It may take as long as it moves.
    pub(crate) async fn fetch(
        &self,
        gateway: &str,
        path: &str,
        timeout: Duration,
    ) -> anyhow::Result<reqwest::Response> {
        let asking = self.prepare(Method::GET, gateway, path).timeout(timeout);
        Ok(asking.send().await?.error_for_status()?)
    }

    /// A request to a gateway, saying who asks.
    fn prepare(&self, method: Method, gateway: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .http
            .request(method, format!("{gateway}{path}"))
            .header("x-user-id", self.user.to_string())
            .header("x-roles", "manager");
        match &self.admin_token {
            Some(token) if path.starts_with(ADMIN_PATHS) => request.bearer_auth(token.reveal()),
            _ => match self.token() {
                Some(token) => request.bearer_auth(token),
                None => request,
            },
        }
    }

    /// A token of the grid's own key, for a moment.
    fn token(&self) -> Option<String> {
        let roles = ["manager", "host", "bidder"].map(str::to_owned);
        let order = TokenOrder {
            user: self.user,
            roles: &roles,
            issued_at_s: now_s(),
            life_s: TOKEN_LIFE_S,
        };
        self.identity_key.as_ref()?.issue(&order).ok()
    }

    /// Begins to read something long, which comes in pieces.
    pub(crate) async fn open(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        self.at_any_gateway(async |gateway| self.attempt_to_open(gateway, path).await)
            .await
            .map(|(_, response)| response)
    }

    async fn request<T: DeserializeOwned>(&self, request: Request<'_>) -> anyhow::Result<T> {
        let path = request.path;
        let (gateway, text) = self
            .at_any_gateway(async |gateway| self.attempt(gateway, &request).await)
            .await?;
        serde_json::from_slice(&text)
            .map_err(|error| anyhow::anyhow!("{gateway}{path} answered something else: {error}"))
    }

    /// Attempts something at one gateway after the other, until one succeeds or refuses.
    async fn at_any_gateway<T>(
        &self,
        mut attempt: impl AsyncFnMut(&str) -> Result<T, Attempt>,
    ) -> anyhow::Result<(&str, T)> {
        let started = Instant::now();
        let mut answered = Instant::now();
        let mut has_answered = false;
        let mut away_in_turn = 0;
        loop {
            let turn = self.current.load(Ordering::Relaxed);
            let gateway = &self.gateways[turn % self.gateways.len()];
            match attempt(gateway).await {
                Ok(done) => return Ok((gateway, done)),
                Err(Attempt::Refused(Problem { code, detail })) => {
                    return Err(Failure::Refused {
                        code,
                        message: detail,
                    }
                    .into());
                }
                Err(Attempt::Later(Problem { code, detail })) => {
                    (has_answered, answered) = (true, Instant::now());
                    away_in_turn = 0;
                    if started.elapsed() > PATIENCE {
                        return Err(Failure::Refused {
                            code,
                            message: detail,
                        }
                        .into());
                    }
                }
                Err(Attempt::Away(why)) => {
                    let patience = if has_answered {
                        PATIENCE
                    } else {
                        CONNECT_PATIENCE
                    };
                    let since = if has_answered { answered } else { started };
                    away_in_turn += 1;
                    // One that took long to go away is no reason not to ask the others.
                    if since.elapsed() > patience && away_in_turn >= self.gateways.len() {
                        let text = format!(
                            "no gateway answers ({}: {why}); is the grid up? start it with `grid up`",
                            self.gateways.join(", ")
                        );
                        return Err(Failure::Unreachable(text).into());
                    }
                }
            }
            self.current.store(turn.wrapping_add(1), Ordering::Relaxed);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn attempt(&self, gateway: &str, request: &Request<'_>) -> Result<Vec<u8>, Attempt> {
        let mut asking = self
            .prepare(request.method.clone(), gateway, request.path)
            .timeout(request.timeout);
        if let Some(body) = request.body {
            asking = asking
                .header("content-type", "application/json")
                .body(body.to_vec());
        }
        if let Some(key) = request.key {
            asking = asking.header("idempotency-key", key);
        }
        answer(asking.send().await, gateway, request.path)
            .await
            .map_err(Attempt::from)
    }

    async fn attempt_to_open(
        &self,
        gateway: &str,
        path: &str,
    ) -> Result<reqwest::Response, Attempt> {
        let asking = self.prepare(Method::GET, gateway, path).send();
        // Only the beginning of the answer is due so soon.
        let Ok(sent) = tokio::time::timeout(ATTEMPT_TIMEOUT, asking).await else {
            return Err(Attempt::Away("it does not answer in time".to_owned()));
        };
        match sent {
            Ok(response) if response.status().is_success() => Ok(response),
            other => match answer(other, gateway, path).await {
                Ok(_) => Err(Attempt::Away("it answered something else".to_owned())),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl From<AskError> for Attempt {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Silent(why) | AskError::Refused(why) => Self::Away(why),
            AskError::Denied { status, problem } if status == 503 || status == 429 => {
                Self::Later(problem)
            }
            AskError::Denied { problem, .. } => Self::Refused(problem),
        }
    }
}

/// The body of a good answer.
async fn answer(
    sent: Result<reqwest::Response, reqwest::Error>,
    gateway: &str,
    path: &str,
) -> Result<Vec<u8>, AskError> {
    let away = |error: reqwest::Error| match error.is_timeout() {
        true => AskError::Silent("it does not answer in time".to_owned()),
        false => AskError::Refused(root_cause(&error)),
    };
    let response = sent.map_err(away)?;
    let status = response.status();
    let text = response.bytes().await.map_err(away)?.to_vec();
    if status.is_success() {
        return Ok(text);
    }
    let mut problem: Problem = serde_json::from_slice(&text).unwrap_or_default();
    if problem.code.is_empty() {
        problem.code = status.as_u16().to_string();
        problem.detail = format!("{gateway}{path} answered {status}");
    }
    Err(AskError::Denied {
        status: status.as_u16(),
        problem,
    })
}

/// The innermost text of an error; what is around it repeats the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A part of a path, with everything that is not plain text escaped.
pub(crate) fn escape(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A random id.
pub(crate) fn random_uuid() -> anyhow::Result<Uuid> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escape("Floor A/1"), "Floor%20A%2F1");
        assert_eq!(escape("é"), "%C3%A9");
    }

    #[tokio::test]
    async fn a_grid_that_is_not_there_is_named() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", closed.local_addr().expect("bound"));
        drop(closed);
        let api = Api::new(vec![address.clone()], Uuid::nil()).expect("a client");
        let error = api
            .get::<serde_json::Value>("/health")
            .await
            .expect_err("nobody");
        assert_eq!(crate::failure::exit_code(&error), 3);
        assert!(error.to_string().contains(&address), "{error}");
    }
}
