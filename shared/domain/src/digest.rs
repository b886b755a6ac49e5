//! The hashes that stand in formats: SHA-256 wherever Highwater is asked, MD5 where AWS's manifests want it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 in lower-case hex, as control rows and `backup.json` give it.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(sha256(bytes))
}

/// MD5. It takes more than twice the time of SHA-256 on processors that have instructions for that, and is only computed
/// where nobody has done it already.
#[must_use]
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// MD5 in base64, as AWS's manifests give it.
#[must_use]
pub fn md5_base64(bytes: &[u8]) -> String {
    BASE64.encode(md5(bytes))
}
