//! Fetching a picture from an address: within a time and a size, from the public internet only, wherever redirects lead.

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Response, Url,
    header::{ACCEPT, CONTENT_TYPE},
    redirect::{Attempt, Policy},
};

use super::{
    MAX_BYTES, PictureError, Refused,
    address::{Guard, GuardedNames, anywhere, check, only_public},
    checked,
};

/// The longest time that a picture may take, redirects included.
const TIME: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 3;

/// The types that are asked for.
const TYPES: [&str; 3] = ["image/png", "image/jpeg", "image/webp"];
/// As which servers send what they do not know.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Fetches pictures.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    guard: Guard,
    time: Duration,
}

impl Fetcher {
    /// One that fetches from the public internet, or from `private_too`: this machine and the networks behind it.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new(private_too: bool) -> reqwest::Result<Self> {
        Self::with_guard(if private_too { anywhere } else { only_public })
    }

    fn with_guard(guard: Guard) -> reqwest::Result<Self> {
        // Fails when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("vitrine/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(GuardedNames(guard)))
            .redirect(Policy::custom(move |attempt| follow(attempt, guard)))
            // A proxy would look names up by itself, and connect to what it likes.
            .no_proxy()
            .referer(false)
            .build()?;
        Ok(Self { client, guard, time: TIME })
    }

    /// The picture at the address.
    pub async fn fetch(&self, address: &str) -> Result<Bytes, PictureError> {
        let url = Url::parse(address).map_err(|error| PictureError::Malformed(error.to_string()))?;
        check(&url, self.guard)?;
        tokio::time::timeout(self.time, self.download(url)).await.unwrap_or(Err(PictureError::Slow(self.time)))
    }

    async fn download(&self, url: Url) -> Result<Bytes, PictureError> {
        let mut response = self.client.get(url).header(ACCEPT, TYPES.join(", ")).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(PictureError::Status(response.status()));
        }
        check_type(&response)?;
        if response.content_length().is_some_and(|length| length > MAX_BYTES) {
            return Err(PictureError::TooLarge);
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if (bytes.len() + piece.len()) as u64 > MAX_BYTES {
                return Err(PictureError::TooLarge);
            }
            bytes.extend_from_slice(&piece);
        }
        checked(bytes.into())
    }
}

fn follow(attempt: Attempt<'_>, guard: Guard) -> reqwest::redirect::Action {
    // The address that began it is among them.
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(Refused::Redirects(MAX_REDIRECTS));
    }
    match check(attempt.url(), guard) {
        Ok(()) => attempt.follow(),
        Err(refused) => attempt.error(refused),
    }
}

/// A server that says nothing of the type, or that it does not know it, is asked no further: the bytes tell.
fn check_type(response: &Response) -> Result<(), PictureError> {
    let Some(value) = response.headers().get(CONTENT_TYPE) else { return Ok(()) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if TYPES.contains(&essence.as_str()) || essence == UNKNOWN_TYPE { Ok(()) } else { Err(PictureError::Type(essence)) }
}

/// What was refused under way, or the last cause of the failure: the ones before it name the address once more.
fn failed(error: reqwest::Error) -> PictureError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return refused.clone().into();
        }
        reason = error.to_string();
        cause = error.source();
    }
    PictureError::Unreachable(reason)
}

#[cfg(test)]
#[path = "../../tests/fake/web.rs"]
mod web;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use web::{Reply, Web, found, moved, not_found};

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand so on";
    const GIF: &[u8] = b"GIF89aand so on";
    const MAX: usize = MAX_BYTES as usize;

    /// Leaves the web server of the tests, and nothing else of what is private.
    fn except_the_test_s(address: IpAddr) -> Option<&'static str> {
        if address == Ipv4Addr::LOCALHOST { None } else { only_public(address) }
    }

    async fn fetch(url: &str) -> Result<Bytes, PictureError> {
        Fetcher::with_guard(except_the_test_s).unwrap().fetch(url).await
    }

    #[track_caller]
    fn refused(fetched: Result<Bytes, PictureError>) -> Refused {
        match fetched {
            Err(PictureError::Refused(refused)) => refused,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_picture_comes_with_a_type_that_fits_or_with_none() {
        for content_type in ["image/png", "Image/JPEG; q=1", "image/webp", "application/octet-stream", ""] {
            let web = Web::serve(move |_| found(content_type, PNG)).await;
            assert_eq!(fetch(&web.url("/a.png")).await.unwrap(), PNG, "{content_type}");
        }
    }

    #[tokio::test]
    async fn what_is_no_picture_by_its_type_or_its_beginning_is_refused() {
        let web = Web::serve(|path| match path {
            "/html" => found("text/html; charset=utf-8", PNG),
            "/unknown" => found("", GIF),
            "/lie" => found("image/png", GIF),
            _ => not_found(),
        })
        .await;
        assert_eq!(fetch(&web.url("/html")).await.unwrap_err().to_string(), "the server says that it is text/html");
        assert!(matches!(fetch(&web.url("/unknown")).await, Err(PictureError::NoPicture)));
        assert!(matches!(fetch(&web.url("/lie")).await, Err(PictureError::NoPicture)));
        let error = fetch(&web.url("/gone")).await.unwrap_err();
        assert_eq!(error.to_string(), "the server answers 404 Not Found");
    }

    /// A PNG of that many bytes, by its beginning.
    fn long_picture(length: usize) -> Vec<u8> {
        let mut bytes = PNG.to_vec();
        bytes.resize(length, 0);
        bytes
    }

    #[tokio::test]
    async fn a_picture_of_ten_mib_is_the_largest_whether_its_length_is_said_or_not() {
        let web = Web::serve(|path| match path {
            "/said" => {
                Reply::Stall(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BYTES + 1).into_bytes())
            }
            "/unsaid" => Reply::Stall([b"HTTP/1.1 200 OK\r\n\r\n", long_picture(MAX + 1).as_slice()].concat()),
            _ => Reply::All([b"HTTP/1.1 200 OK\r\n\r\n", long_picture(MAX).as_slice()].concat()),
        })
        .await;
        assert!(matches!(fetch(&web.url("/said")).await, Err(PictureError::TooLarge)));
        assert!(matches!(fetch(&web.url("/unsaid")).await, Err(PictureError::TooLarge)));
        assert_eq!(fetch(&web.url("/fits")).await.unwrap().len(), MAX);
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_is_waited_for_only_so_long() {
        let web = Web::serve(|path| match path {
            "/never" => Reply::Stall(Vec::new()),
            _ => Reply::Stall([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", PNG].concat()),
        })
        .await;
        let mut fetcher = Fetcher::with_guard(except_the_test_s).unwrap();
        fetcher.time = Duration::from_millis(200);
        for path in ["/never", "/half"] {
            let error = fetcher.fetch(&web.url(path)).await.unwrap_err();
            assert_eq!(error.to_string(), "not there within 200ms", "{path}");
        }
    }

    #[tokio::test]
    async fn three_redirects_are_followed_and_no_more() {
        let web = Web::serve(|path| match path {
            "/4" => moved("/3"),
            "/3" => moved("/2"),
            "/2" => moved("/1"),
            "/1" => moved("/a.png"),
            _ => found("image/png", PNG),
        })
        .await;
        assert_eq!(fetch(&web.url("/3")).await.unwrap(), PNG);
        assert_eq!(web.asked(), ["/3", "/2", "/1", "/a.png"]);
        assert_eq!(refused(fetch(&web.url("/4")).await), Refused::Redirects(3));
    }

    #[tokio::test]
    async fn a_redirect_leads_to_no_place_that_could_not_be_named_at_first() {
        let web = Web::serve(|path| match path {
            "/metadata" => moved("http://169.254.169.254/latest"),
            "/loopback" => moved("http://[::1]:7700/"),
            "/other" => moved("ftp://shop.example/a.png"),
            _ => moved("http://me:pw@shop.example/a.png"),
        })
        .await;
        let to = async |path| refused(fetch(&web.url(path)).await);
        assert!(matches!(to("/metadata").await, Refused::Private { kind: "a link-local address", .. }));
        assert!(matches!(to("/loopback").await, Refused::Private { kind: "a loopback address", .. }));
        assert_eq!(to("/other").await, Refused::Scheme("ftp".into()));
        assert_eq!(to("/credentials").await, Refused::Credentials);
    }

    #[tokio::test]
    async fn private_addresses_and_names_of_them_are_asked_for_nothing_unless_allowed() {
        let web = Web::serve(|_| found("image/png", PNG)).await;
        let by_name = format!("http://localhost:{}/a.png", web.address.port());
        let public = Fetcher::new(false).unwrap();
        for url in [&web.url("/a.png"), &by_name] {
            let refused = refused(public.fetch(url).await);
            assert!(matches!(refused, Refused::Private { kind: "a loopback address", .. }), "{refused}");
        }
        assert_eq!(web.asked(), [""; 0]);
        let any = Fetcher::new(true).unwrap();
        for url in [&web.url("/a.png"), &by_name] {
            assert_eq!(any.fetch(url).await.unwrap(), PNG);
        }
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_read_or_reached_is_told_with_its_cause() {
        let error = fetch("http://[::1/a.png").await.unwrap_err().to_string();
        assert_eq!(error, "no address: invalid IPv6 address");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&format!("http://{closed}/a.png")).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
