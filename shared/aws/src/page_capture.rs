//! Takes a `Scan` response's items out of its body before the SDK parses it.
//!
//! The interceptor replaces the body of a good answer by one that drains the original, checks it, keeps
//! the items as they came and gives the SDK the same document with an empty `Items`. Count, position
//! and capacity are thus parsed by the SDK, and no attribute value of an item is ever built.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
    BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::{Bytes, BytesMut};
use highwater_domain::failure::FailureKind;
use highwater_domain::item_finder::{ItemFinderError, find_items};
use highwater_domain::scan::RawItems;
use http_body::{Body, Frame};
use thiserror::Error;

/// The longest response that is read. A page holds 1 MB of items as DynamoDB counts them, whose JSON may
/// be several times as long (control characters take six bytes); this is far beyond the worst.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Why a response body is not a page.
#[derive(Debug, Error)]
pub(crate) enum PageError {
    /// The checksum that DynamoDB sent does not fit the bytes that came.
    #[error("the response's CRC-32 is {found}, not {expected} as x-amz-crc32 says")]
    Checksum {
        /// Of the bytes.
        found: u32,
        /// Of the header.
        expected: u32,
    },
    /// Fewer or more bytes than the header announced.
    #[error("the response has {found} bytes, not {expected} as Content-Length says")]
    Length {
        /// How many came.
        found: usize,
        /// How many should have.
        expected: usize,
    },
    /// More than a page can have.
    #[error("the response is longer than {MAX_BODY} bytes")]
    TooLong,
    /// Compressed, although only plain bytes were asked for.
    #[error("the response is encoded as {0:?}, which was not asked for")]
    Encoded(String),
    /// A header that should be a number is not.
    #[error("the response's header {0} is not a number")]
    Header(&'static str),
    /// The bytes are not a page.
    #[error("the response is no page of items: {0}")]
    Malformed(#[from] ItemFinderError),
}

impl PageError {
    /// Whether another try may bring better bytes.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Checksum { .. }
            | Self::Length { .. }
            | Self::Malformed(ItemFinderError::Truncated { .. }) => FailureKind::Transient,
            _ => FailureKind::Corrupt,
        }
    }
}

/// The items of one response.
#[derive(Debug)]
pub(crate) struct CapturedPage {
    pub(crate) items: RawItems,
    pub(crate) wire_bytes: u64,
}

/// Where the interceptor leaves the page for the call that it belongs to.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageSlot(Arc<Mutex<Option<CapturedPage>>>);

impl PageSlot {
    /// The page of the last attempt, if it was good.
    pub(crate) fn take(&self) -> Option<CapturedPage> {
        self.set(None)
    }

    fn set(&self, page: Option<CapturedPage>) -> Option<CapturedPage> {
        mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            page,
        )
    }
}

/// Captures the page of one call into a slot.
#[derive(Debug)]
pub(crate) struct PageCapture(pub(crate) PageSlot);

#[dyn_dispatch_hint]
impl Intercept for PageCapture {
    fn name(&self) -> &'static str {
        "PageCapture"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An attempt that fails half-way must not leave the page of one before it.
        self.0.take();
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context
            .request_mut()
            .headers_mut()
            .insert("accept-encoding", "identity");
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if !response.status().is_success() {
            // An error's body is the SDK's.
            return Ok(());
        }
        let promise = Promise::of(response)?;
        let body = PageBody {
            inner: response.take_body(),
            buffer: BytesMut::with_capacity(promise.length.unwrap_or(0)),
            promise,
            slot: self.0.clone(),
            done: false,
        };
        *response.body_mut() = SdkBody::from_body_1_x(body);
        Ok(())
    }
}

/// What the headers say of the body.
struct Promise {
    crc32: Option<u32>,
    length: Option<usize>,
}

impl Promise {
    fn of(response: &HttpResponse) -> Result<Self, PageError> {
        let header = |name| response.headers().get(name).map(str::trim);
        let encoding = header("content-encoding").filter(|it| !matches!(*it, "" | "identity"));
        if let Some(encoding) = encoding {
            return Err(PageError::Encoded(encoding.to_owned()));
        }
        let number = |text: &str, name| text.parse().map_err(|_| PageError::Header(name));
        let length = header("content-length")
            .map(|text| number(text, "content-length"))
            .transpose()?
            .map(|length: u64| {
                usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= MAX_BODY)
                    .ok_or(PageError::TooLong)
            })
            .transpose()?;
        let crc32 = header("x-amz-crc32")
            .map(|text| text.parse().map_err(|_| PageError::Header("x-amz-crc32")))
            .transpose()?;
        Ok(Self { crc32, length })
    }
}

/// A body that is the page's without its items, once the whole of it has come and was found good.
struct PageBody {
    inner: SdkBody,
    buffer: BytesMut,
    promise: Promise,
    slot: PageSlot,
    done: bool,
}

impl PageBody {
    fn take_frame(&mut self, frame: Frame<Bytes>) -> Result<(), PageError> {
        // Trailers carry nothing here.
        let Ok(data) = frame.into_data() else {
            return Ok(());
        };
        if self.buffer.len() + data.len() > MAX_BODY {
            return Err(PageError::TooLong);
        }
        self.buffer.extend_from_slice(&data);
        Ok(())
    }

    /// The body is complete: checks it, leaves the items in the slot and returns the rest.
    fn finish(&mut self) -> Result<Bytes, PageError> {
        let body = mem::take(&mut self.buffer).freeze();
        if let Some(expected) = self.promise.length.filter(|length| *length != body.len()) {
            return Err(PageError::Length {
                found: body.len(),
                expected,
            });
        }
        let found = crc32fast::hash(&body);
        if let Some(expected) = self.promise.crc32.filter(|crc32| *crc32 != found) {
            return Err(PageError::Checksum { found, expected });
        }
        let items = find_items(&body)?;
        if self.promise.crc32.is_none() {
            // DynamoDB always sends one. What comes from elsewhere is looked at item by item.
            items.check(&body)?;
        }
        let rest = items.document_without_items(&body);
        self.slot.set(Some(CapturedPage {
            wire_bytes: body.len() as u64,
            items: items.into_raw_items(body),
        }));
        Ok(rest.into())
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while !self.done {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Err(error) = self.take_frame(frame) {
                        self.done = true;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
                Some(Err(error)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.done = true;
                    let rest = self.finish().map(Frame::data).map_err(BoxError::from);
                    return Poll::Ready(Some(rest));
                }
            }
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for PageBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageBody")
            .field("buffered", &self.buffer.len())
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
