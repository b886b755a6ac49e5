//! Listings of a bucket, with keys as they are however S3 had to write them.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::{ListPage, ListedObject, ObjectStore};

use crate::s3_store::S3Store;
use crate::url_key;

const LIST: &str = "ListObjectsV2";

impl S3Store {
    /// The request for a page of a listing.
    pub(crate) fn listing(&self, prefix: &str) -> ListObjectsV2FluentBuilder {
        self.client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .encoding_type(EncodingType::Url)
    }

    /// One answer in the port's words, with `next` as S3's own token.
    pub(crate) async fn listed(
        &self,
        prefix: &str,
        listing: ListObjectsV2FluentBuilder,
    ) -> Result<ListPage, Failure> {
        let output = listing
            .send()
            .await
            .map_err(|error| self.failure(LIST, prefix, error))?;
        let corrupt = |message| Failure::new(FailureKind::Corrupt, LIST, self.url(prefix), message);
        let encoded = is_encoded(&output, prefix);
        let decode = |text: Option<&str>| {
            let text = text.ok_or_else(|| corrupt("an entry without its key".to_owned()))?;
            if !encoded {
                return Ok(text.to_owned());
            }
            url_key::decode(text)
                .ok_or_else(|| corrupt(format!("{text:?} is not a URL-encoded key")))
        };
        let mut page = ListPage::default();
        for object in output.contents() {
            let bytes = object.size().and_then(|size| u64::try_from(size).ok());
            let key = decode(object.key())?;
            let bytes =
                bytes.ok_or_else(|| corrupt(format!("{key:?} is listed without a size")))?;
            page.objects.push(ListedObject { key, bytes });
        }
        for folder in output.common_prefixes() {
            page.folders.push(decode(folder.prefix())?);
        }
        if output.is_truncated() == Some(true) {
            let token = output.next_continuation_token().map(str::to_owned);
            page.next = Some(token.ok_or_else(|| {
                corrupt("the listing goes on, but does not say where".to_owned())
            })?);
        }
        Ok(page)
    }
}

/// Whether the keys of an answer are URL-encoded, as they were asked for.
///
/// Some servers ignore the wish, and some (s3s) acknowledge it and send the keys as they are all the same.
fn is_encoded(output: &ListObjectsV2Output, prefix: &str) -> bool {
    let keys = output.contents().iter().filter_map(Object::key);
    let folders = output
        .common_prefixes()
        .iter()
        .filter_map(CommonPrefix::prefix);
    output.encoding_type() == Some(&EncodingType::Url)
        && keys.chain(folders).all(url_key::may_be_encoded)
        && output
            .prefix()
            .is_none_or(|echo| url_key::decode(echo).as_deref() == Some(prefix))
}
