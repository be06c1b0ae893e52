//! Page tokens and attribution tokens: opaque to clients, checked by a MAC, bound to what they were made for.
//!
//! A token is URL-safe base64 of `purpose byte ‖ payload ‖ first 16 bytes of HMAC-SHA256(key, purpose ‖ payload)`.
//! The key is 32 random bytes in the data directory, so that tokens outlive a restart.

use std::{
    fs,
    hash::{Hash, Hasher as _},
    io::{self, Write as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message;
use rand::Rng as _;
use rustc_hash::FxHasher;
use sha2::Sha256;
use vitrine::v1::Served;

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 16;

/// What a token is for; the first byte of it, so that one kind never passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Page = 1,
    Attribution = 2,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was altered, or not made by this installation.
    #[error("is not a token of this server; send `next_page_token` as it came")]
    Forged,
    /// It belongs to a request with other parameters.
    #[error("belongs to another request; repeat the first request's parameters, or start without a token")]
    OtherRequest,
    /// It is too old.
    #[error("has expired")]
    Expired,
}

/// Where the next page starts.
#[derive(Clone, PartialEq, Message)]
pub struct Page {
    /// Hash of the request's parameters, `page_size` and `page_token` left out.
    #[prost(fixed64, tag = "1")]
    pub request: u64,
    /// How many results came before.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// The items shown before, for Recommend.
    #[prost(uint32, repeated, tag = "3")]
    pub shown: Vec<u32>,
    /// The last id of the page before, for lists.
    #[prost(string, tag = "4")]
    pub after: String,
}

/// Ties an event to the answer that led to it.
#[derive(Clone, PartialEq, Message)]
pub struct Attribution {
    /// The catalog of the answer.
    #[prost(string, tag = "1")]
    pub catalog: String,
    /// Random, one an answer.
    #[prost(fixed64, tag = "2")]
    pub request_id: u64,
    /// When it was given, in unix milliseconds.
    #[prost(int64, tag = "3")]
    pub time_ms: i64,
    /// The model versions that took part, as `minilm/3`.
    #[prost(string, repeated, tag = "4")]
    pub versions: Vec<String>,
    /// Hash of the ids served, in their order.
    #[prost(fixed64, tag = "5")]
    pub list: u64,
    /// How items came into it, of those where there is more to say than that they did.
    #[prost(message, repeated, tag = "6")]
    pub items: Vec<ServedItem>,
}

/// How an item came into an answer.
#[derive(Clone, PartialEq, Message)]
pub struct ServedItem {
    /// [`short_hash`] of its id: an answer has few items.
    #[prost(fixed32, tag = "1")]
    pub item: u32,
    /// Its `answer` is left out.
    #[prost(message, optional, tag = "2")]
    pub served: Option<Served>,
}

/// Tells the items of one answer apart.
pub fn short_hash(id: &str) -> u32 {
    stable_hash(id) as u32
}

/// Makes and checks tokens with one key.
pub struct Tokens {
    key: Hmac<Sha256>,
}

impl Tokens {
    /// Reads the key from `path`, or makes one there, readable by its owner only.
    pub fn open(path: &Path) -> io::Result<Self> {
        let key = match fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create_key(path)?,
            Err(error) => return Err(error),
        };
        if key.len() != KEY_BYTES {
            let message = format!(
                "{} holds {} bytes instead of {KEY_BYTES}; remove it, and tokens given before become void",
                path.display(),
                key.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Self::with_key(&key))
    }

    fn with_key(key: &[u8]) -> Self {
        let key = Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Self { key }
    }

    /// The token that leads to `page`.
    pub fn page(&self, page: &Page) -> String {
        self.seal(Purpose::Page, page)
    }

    /// The page a token leads to, if it was made for a request with the hash `request`.
    pub fn open_page(&self, token: &str, request: u64) -> Result<Page, TokenError> {
        let page: Page = self.unseal(Purpose::Page, token)?;
        if page.request == request { Ok(page) } else { Err(TokenError::OtherRequest) }
    }

    /// The token of an answer.
    pub fn attribution(&self, attribution: &Attribution) -> String {
        self.seal(Purpose::Attribution, attribution)
    }

    /// The answer a token names, if it is of `catalog` and at most `ttl_ms` old.
    pub fn open_attribution(
        &self,
        token: &str,
        catalog: &str,
        now_ms: i64,
        ttl_ms: i64,
    ) -> Result<Attribution, TokenError> {
        let attribution: Attribution = self.unseal(Purpose::Attribution, token)?;
        if attribution.catalog != catalog {
            Err(TokenError::OtherRequest)
        } else if now_ms.saturating_sub(attribution.time_ms) > ttl_ms {
            Err(TokenError::Expired)
        } else {
            Ok(attribution)
        }
    }

    fn seal(&self, purpose: Purpose, payload: &impl Message) -> String {
        let mut bytes = vec![purpose as u8];
        bytes.extend(payload.encode_to_vec());
        let mac = self.key.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn unseal<M: Message + Default>(&self, purpose: Purpose, token: &str) -> Result<M, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Forged)?;
        let (signed, mac) = bytes.split_at_checked(bytes.len().wrapping_sub(MAC_BYTES)).ok_or(TokenError::Forged)?;
        self.key.clone().chain_update(signed).verify_truncated_left(mac).map_err(|_| TokenError::Forged)?;
        match signed.split_first() {
            Some((first, payload)) if *first == purpose as u8 => M::decode(payload).map_err(|_| TokenError::Forged),
            _ => Err(TokenError::Forged),
        }
    }
}

/// A hash that is the same in every process of the same build, for binding tokens to requests.
pub fn stable_hash(value: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

fn create_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use vitrine::v1::ServedAd;

    use super::*;

    fn page(request: u64) -> Page {
        Page { request, offset: 20, shown: vec![3, 1, 2], after: String::new() }
    }

    fn attribution(time_ms: i64) -> Attribution {
        Attribution { catalog: "shop".into(), time_ms, ..Default::default() }
    }

    #[test]
    fn a_page_token_leads_back_to_its_page() {
        let tokens = Tokens::with_key(b"key");
        assert_eq!(tokens.open_page(&tokens.page(&page(7)), 7), Ok(page(7)));
    }

    #[test]
    fn a_page_token_of_another_request_is_refused() {
        let tokens = Tokens::with_key(b"key");
        assert_eq!(tokens.open_page(&tokens.page(&page(7)), 8), Err(TokenError::OtherRequest));
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let tokens = Tokens::with_key(b"key");
        let token = tokens.page(&page(7));
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(tokens.open_page(&altered, 7), Err(TokenError::Forged), "byte {at}");
        }
        for rubbish in ["", "x", "####", "AAAA", &"A".repeat(10_000)] {
            assert_eq!(tokens.open_page(rubbish, 7), Err(TokenError::Forged));
        }
    }

    #[test]
    fn one_kind_of_token_does_not_pass_for_another() {
        let tokens = Tokens::with_key(b"key");
        let token = tokens.attribution(&attribution(0));
        assert_eq!(tokens.open_page(&token, 0), Err(TokenError::Forged));
    }

    #[test]
    fn an_attribution_expires_and_stays_in_its_catalog() {
        let tokens = Tokens::with_key(b"key");
        let token = tokens.attribution(&attribution(1_000));
        assert!(tokens.open_attribution(&token, "shop", 2_000, 1_000).is_ok());
        assert_eq!(tokens.open_attribution(&token, "shop", 2_001, 1_000), Err(TokenError::Expired));
        assert_eq!(tokens.open_attribution(&token, "other", 2_000, 1_000), Err(TokenError::OtherRequest));
    }

    #[test]
    fn a_page_of_advertisements_fits_what_an_event_may_bring() {
        let ad = ServedAd {
            campaign: "c".repeat(63),
            price_micros: i64::MAX,
            predictor: format!("{}/4294967295", "m".repeat(63)),
            predicted_logit: -2.5,
            charged_micros: 0,
        };
        let served = Some(Served { ad: Some(ad), ..Served::default() });
        let items = vec![ServedItem { item: u32::MAX, served }; 100];
        let token = Tokens::with_key(b"key").attribution(&Attribution { items, ..attribution(0) });
        assert!(token.len() < crate::check::MAX_TOKEN_CHARS * 9 / 10, "{}", token.len());
    }

    #[test]
    fn the_key_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        let token = Tokens::open(&path).unwrap().page(&page(7));
        assert_eq!(Tokens::open(&path).unwrap().open_page(&token, 7), Ok(page(7)));
    }
}
