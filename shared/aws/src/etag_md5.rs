//! The MD5 of an object that S3 has computed, so that nobody else has to.
//!
//! S3's `ETag` of an object that `PutObject` made is the MD5 of its bytes, unless a key of KMS or of the user's encrypts
//! it; a general purpose bucket encrypts with S3's own keys where nothing else is asked for, and each answer says which it was.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-encryption-faq.html>.
//! What others that speak S3's protocol call an `ETag` is their own affair, so the first one is held against the MD5.

use std::sync::{Arc, OnceLock};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::types::ServerSideEncryption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use highwater_domain::digest::md5;

/// Whether the `ETag`s of a bucket are MD5s, as its first upload has shown. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct EtagMd5(Arc<OnceLock<bool>>);

impl EtagMd5 {
    /// The MD5 of `body`, which was uploaded, if S3 has computed it.
    pub(crate) fn of(&self, body: &[u8], answer: &PutObjectOutput) -> Option<[u8; 16]> {
        let etag = spelled_like_one(answer.server_side_encryption(), answer.e_tag())?;
        match self.0.get() {
            Some(true) => Some(etag),
            Some(false) => None,
            None => {
                let computed = md5(body);
                // Somebody may have been faster, with another upload; his finding is as good.
                let _ = self.0.set(computed == etag);
                Some(computed)
            }
        }
    }
}

/// The `ETag` of an object that was read, if it may be the MD5 of its bytes: who holds it against an MD5 and finds them
/// equal knows that it is.
///
/// Only with a checksum of the whole object, which the SDK holds against the bytes: the MD5 is of what was put there.
pub(crate) fn of_read(answer: &GetObjectOutput) -> Option<[u8; 16]> {
    let checksums = [
        answer.checksum_sha256(),
        answer.checksum_crc64_nvme(),
        answer.checksum_crc32_c(),
        answer.checksum_crc32(),
    ];
    // One that is made of the checksums of an upload's parts ends with their number, and the SDK leaves it alone.
    let is_whole = |checksum: &str| BASE64.decode(checksum).is_ok();
    let mut given = checksums.into_iter().flatten().peekable();
    given.peek()?;
    if !given.all(is_whole) {
        return None;
    }
    spelled_like_one(answer.server_side_encryption(), answer.e_tag())
}

fn spelled_like_one(by: Option<&ServerSideEncryption>, etag: Option<&str>) -> Option<[u8; 16]> {
    if by != Some(&ServerSideEncryption::Aes256) {
        return None;
    }
    let mut md5 = [0; 16];
    hex::decode_to_slice(etag?.trim_matches('"'), &mut md5).ok()?;
    Some(md5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES_MD5: &str = "\"5c5ebc6abbbe5e96d4b6ba5f2cc5bd5f\"";

    fn answer(sse: Option<ServerSideEncryption>, etag: &str) -> PutObjectOutput {
        PutObjectOutput::builder()
            .set_server_side_encryption(sse)
            .e_tag(etag)
            .build()
    }

    fn quoted(body: &[u8]) -> String {
        format!("\"{}\"", hex::encode(md5(body)))
    }

    #[test]
    fn the_first_is_computed_and_the_others_are_believed() {
        let bucket = EtagMd5::default();
        let of_s3 = |etag: &str| answer(Some(ServerSideEncryption::Aes256), etag);
        assert_eq!(bucket.of(b"1", &of_s3(&quoted(b"1"))), Some(md5(b"1")));
        // Not the MD5, to see who is believed.
        let other = bucket.clone().of(b"2", &of_s3(LINES_MD5)).unwrap();
        assert_eq!(format!("\"{}\"", hex::encode(other)), LINES_MD5);
        for no_md5 in ["\"5c5e\"", "\"5c5ebc6abbbe5e96d4b6ba5f2cc5bd5f-1\"", ""] {
            assert_eq!(bucket.of(b"3", &of_s3(no_md5)), None, "{no_md5}");
        }
    }

    #[test]
    fn a_bucket_whose_etags_are_something_else_is_not_believed() {
        let bucket = EtagMd5::default();
        let sse = || Some(ServerSideEncryption::Aes256);
        assert_eq!(bucket.of(b"1", &answer(sse(), LINES_MD5)), Some(md5(b"1")));
        let right = answer(sse(), &quoted(b"2"));
        assert_eq!(bucket.of(b"2", &right), None);
    }

    #[test]
    fn under_other_keys_an_etag_is_no_md5() {
        let bucket = EtagMd5::default();
        for sse in [
            None,
            Some(ServerSideEncryption::AwsKms),
            Some(ServerSideEncryption::AwsKmsDsse),
        ] {
            assert_eq!(bucket.of(b"1", &answer(sse, &quoted(b"1"))), None);
        }
    }
}
