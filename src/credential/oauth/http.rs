//! The requests of this room: one exchange each, by HTTPS or to this machine itself, bounded in every way.
//!
//! No pool, no cookies, no redirects: a token endpoint that sends elsewhere would have the secrets follow.
//! HTTP/1.1 alone, because there is one request on a connection.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{OauthError, form};
use crate::config::is_endpoint;

/// How long one exchange may take, from the name's resolution to the last byte.
const EXCHANGE_MAX: Duration = Duration::from_secs(20);
/// How long one address of several has to answer a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The longest answer, bytes: discovery documents of the large providers have some 10 KiB, tokens some 5.
const ANSWER_MAX: usize = 256 * 1024;

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The server's clock, seconds since the epoch.
    pub(super) date: Option<i64>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Asks authorization servers.
pub struct Client {
    ca_file: Option<PathBuf>,
    within: Duration,
    /// Made with the first https request: reading the authorities takes some milliseconds.
    tls: tokio::sync::OnceCell<TlsConnector>,
}

/// What a request carries.
enum Body<'a> {
    Nothing,
    Form(&'a [(&'a str, &'a str)]),
    Json(Vec<u8>),
}

impl Client {
    /// One that trusts the system's authorities and those in `ca_file`.
    pub fn new(ca_file: Option<&Path>) -> Self {
        Self {
            ca_file: ca_file.map(Path::to_owned),
            within: EXCHANGE_MAX,
            tls: tokio::sync::OnceCell::new(),
        }
    }

    /// The same with another limit for one exchange.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// A client like this one, whose exchanges take no longer than `most`.
    #[must_use]
    pub fn at_most(&self, most: Duration) -> Self {
        Self::new(self.ca_file.as_deref()).within(self.within.min(most))
    }

    pub(super) async fn get(&self, url: &str) -> Result<Answer, OauthError> {
        self.ask(url, Body::Nothing, None).await
    }

    /// Posts a form; with `basic` the client says who it is by HTTP Basic.
    pub(super) async fn form(
        &self,
        url: &str,
        pairs: &[(&str, &str)],
        basic: Option<(&str, &str)>,
    ) -> Result<Answer, OauthError> {
        self.ask(url, Body::Form(pairs), basic).await
    }

    pub(super) async fn json(&self, url: &str, body: Vec<u8>) -> Result<Answer, OauthError> {
        self.ask(url, Body::Json(body), None).await
    }

    async fn ask(
        &self,
        url: &str,
        body: Body<'_>,
        basic: Option<(&str, &str)>,
    ) -> Result<Answer, OauthError> {
        let host = shown(url);
        let unreachable =
            |why: String| OauthError::Unreachable(format!("{host} cannot be asked: {why}"));
        let exchange = async {
            let uri = address(url)?;
            let request = request(&uri, body, basic)?;
            let tcp = dial(&uri).await.map_err(|error| unreachable(error.to_string()))?;
            if uri.scheme_str() != Some("https") {
                return exchange(tcp, request, &host).await;
            }
            let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let name =
                ServerName::try_from(name).map_err(|error| unreachable(error.to_string()))?;
            let tls =
                self.tls.get_or_try_init(|| async { connector(self.ca_file.as_deref()) }).await?;
            let secured =
                tls.connect(name, tcp).await.map_err(|error| unreachable(error.to_string()))?;
            exchange(secured, request, &host).await
        };
        match tokio::time::timeout(self.within, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(format!("no answer within {} s", self.within.as_secs_f32()))),
        }
    }
}

/// The address, where secrets may be sent to it.
fn address(url: &str) -> Result<Uri, OauthError> {
    let wrong = || OauthError::Garbled(format!("{} is no address to send secrets to", shown(url)));
    if !is_endpoint(url) {
        return Err(wrong());
    }
    url.parse().map_err(|_| wrong())
}

/// The scheme and host of an address, for people.
fn shown(url: &str) -> String {
    let end = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(end..).unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    super::quoted(host.rsplit('@').next().unwrap_or_default())
}

fn request(
    uri: &Uri,
    body: Body<'_>,
    basic: Option<(&str, &str)>,
) -> Result<Request<Full<Bytes>>, OauthError> {
    let garbled = |error: hyper::http::Error| OauthError::Garbled(error.to_string());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let mut builder = Request::builder()
        .uri(target)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("tenantd/", env!("CARGO_PKG_VERSION")));
    if let Some((id, secret)) = basic {
        // RFC 6749, section 2.3.1: both halves are encoded as in a form first.
        let pair = form::encode(&[(id, secret)]);
        let pair = Zeroizing::new(pair.replacen('=', ":", 1));
        let value =
            Zeroizing::new(format!("Basic {}", *Zeroizing::new(BASE64_STANDARD.encode(&*pair))));
        let mut value = HeaderValue::from_str(&value).map_err(|error| garbled(error.into()))?;
        value.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, value);
    }
    let (method, kind, bytes) = match body {
        Body::Nothing => (Method::GET, None, Bytes::new()),
        Body::Form(pairs) => {
            let text = form::encode(pairs);
            // The owner zeroes itself when the request is gone.
            let bytes = Bytes::from_owner(Zeroizing::new(text.as_bytes().to_vec()));
            (Method::POST, Some("application/x-www-form-urlencoded"), bytes)
        }
        Body::Json(text) => (Method::POST, Some("application/json"), Bytes::from(text)),
    };
    if let Some(kind) = kind {
        builder = builder.header(CONTENT_TYPE, kind);
    }
    builder.method(method).body(Full::new(bytes)).map_err(garbled)
}

/// A connection to the first address that takes one.
async fn dial(uri: &Uri) -> std::io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let mut last = std::io::Error::other("its name has no address");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    for address in addresses {
        match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// One request on a connection, and its bounded answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    host: &str,
) -> Result<Answer, OauthError> {
    let broken = |error: hyper::Error| {
        OauthError::Unreachable(format!("{host} broke the connection off: {error}"))
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        read(response, host).await
    };
    // The connection moves the bytes; it ends with the answer, or is dropped with it.
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

async fn read(response: Response<hyper::body::Incoming>, host: &str) -> Result<Answer, OauthError> {
    let status = response.status().as_u16();
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(moment);
    // Whole at once: a vector that grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(ANSWER_MAX));
    let mut incoming = response.into_body();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| {
            OauthError::Unreachable(format!("{host} broke its answer off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > ANSWER_MAX {
            let limit = ANSWER_MAX >> 10;
            return Err(OauthError::Garbled(format!("{host} answered with more than {limit} KiB")));
        }
        body.extend_from_slice(&data);
    }
    Ok(Answer { status, date, body })
}

/// A Date header (RFC 9110, section 5.6.7), seconds since the epoch.
fn moment(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(text).ok().map(jiff::Timestamp::as_second)
}

/// TLS 1.2 and 1.3 with the system's authorities and those of the house.
fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, OauthError> {
    let setup = |what: String| OauthError::Setup(what);
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let unreadable =
            |error| setup(format!("egress.ca_file {} cannot be read: {error}", path.display()));
        let own = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
        for certificate in own {
            let certificate = certificate.map_err(unreadable)?;
            roots
                .add(certificate)
                .map_err(|error| setup(format!("{}: {error}", path.display())))?;
        }
    }
    if roots.is_empty() {
        return Err(setup(
            "this machine has no certificate authorities (install ca-certificates)".into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
