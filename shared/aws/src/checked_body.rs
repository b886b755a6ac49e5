//! A response body that is taken whole, checked, and exchanged for another before the SDK parses it.
//!
//! DynamoDB sends its answers with their length and their CRC-32, which the SDK does not look at. What
//! passes here is checked against both, so that bytes that are kept as they came are the bytes that were sent.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::UnixMillis;
use highwater_domain::item_finder::ItemFinderError;
use highwater_domain::reused_buffers::{ReusedBuffer, ReusedBuffers};
use http_body::{Body, Frame};
use thiserror::Error;

/// The longest response that is read. A page holds 1 MB of items as DynamoDB counts them, whose JSON may
/// be several times as long (control characters take six bytes), and a batch of writes that all come back
/// 16 MB; this is far beyond the worst.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Why a response body is not the answer that was asked for.
#[derive(Debug, Error)]
pub(crate) enum AnswerError {
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
    /// More than any answer can have.
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
    Page(#[from] ItemFinderError),
    /// What stands around a page's items is something else.
    #[error("the response is no page of items: around them, {0}")]
    Around(#[source] serde_json::Error),
    /// The bytes do not say what became of a batch.
    #[error("the response is no answer to a batch of writes: {0}")]
    Batch(#[from] serde_json::Error),
    /// The bytes are not an answer of stream records.
    #[error("the response is no page of stream records: {0}")]
    Records(#[source] serde_json::Error),
    /// The bytes are not an answer about one item.
    #[error("the response is no answer about an item: {0}")]
    Item(#[source] serde_json::Error),
    /// There is nothing that it was asked for.
    #[error("the answer does not say what became of the request")]
    Unsaid,
    /// The answer does not say when it was given, which the mark of a change log is computed from.
    #[error("the response's header Date is {0:?}, which is no time")]
    Date(String),
}

impl AnswerError {
    /// Whether another try may bring better bytes.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Checksum { .. }
            | Self::Length { .. }
            | Self::Page(ItemFinderError::Truncated { .. }) => FailureKind::Transient,
            Self::Around(error) | Self::Batch(error) | Self::Records(error) | Self::Item(error)
                if error.is_eof() =>
            {
                FailureKind::Transient
            }
            _ => FailureKind::Corrupt,
        }
    }
}

/// The bytes of an answer, whole, as long as its headers say and with their checksum.
pub(crate) struct CheckedBytes {
    pub(crate) body: Bytes,
    /// Whether there was a checksum; DynamoDB always sends one.
    pub(crate) had_checksum: bool,
    /// The header Date.
    pub(crate) date: String,
}

impl CheckedBytes {
    /// When the service answered, by its own clock.
    pub(crate) fn answered_at(&self) -> Result<UnixMillis, AnswerError> {
        let read = DateTime::from_str(&self.date, Format::HttpDate).ok();
        read.and_then(|at| at.to_millis().ok())
            .and_then(|millis| u64::try_from(millis).ok())
            .map(UnixMillis)
            .ok_or_else(|| AnswerError::Date(self.date.clone()))
    }
}

/// What is made of a whole answer: the bytes that the SDK parses in its place.
type Exchange = Box<dyn FnOnce(CheckedBytes) -> Result<Bytes, AnswerError> + Send + Sync>;

/// Asks for an answer as plain bytes, whose length and checksum are those of what is parsed.
pub(crate) fn ask_for_plain_bytes(context: &mut BeforeTransmitInterceptorContextMut<'_>) {
    context
        .request_mut()
        .headers_mut()
        .insert("accept-encoding", "identity");
}

/// Has a good answer's body, in one of `buffers`, exchanged once the whole of it has come. An error's body is the SDK's.
pub(crate) fn exchange_good_answer(
    response: &mut HttpResponse,
    buffers: &ReusedBuffers,
    exchange: impl FnOnce(CheckedBytes) -> Result<Bytes, AnswerError> + Send + Sync + 'static,
) -> Result<(), AnswerError> {
    if !response.status().is_success() {
        return Ok(());
    }
    let promise = Promise::of(response)?;
    let body = CheckedBody {
        inner: response.take_body(),
        buffer: buffers.take(promise.length.unwrap_or(0)),
        crc32: crc32fast::Hasher::new(),
        promise,
        exchange: Some(Box::new(exchange)),
    };
    *response.body_mut() = SdkBody::from_body_1_x(body);
    Ok(())
}

/// What the headers say of the body.
struct Promise {
    crc32: Option<u32>,
    length: Option<usize>,
    date: String,
}

impl Promise {
    fn of(response: &HttpResponse) -> Result<Self, AnswerError> {
        let header = |name| response.headers().get(name).map(str::trim);
        let encoding = header("content-encoding").filter(|it| !matches!(*it, "" | "identity"));
        if let Some(encoding) = encoding {
            return Err(AnswerError::Encoded(encoding.to_owned()));
        }
        let number = |text: &str, name| text.parse().map_err(|_| AnswerError::Header(name));
        let length = header("content-length")
            .map(|text| number(text, "content-length"))
            .transpose()?
            .map(|length: u64| {
                usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= MAX_BODY)
                    .ok_or(AnswerError::TooLong)
            })
            .transpose()?;
        let crc32 = header("x-amz-crc32")
            .map(|text| text.parse().map_err(|_| AnswerError::Header("x-amz-crc32")))
            .transpose()?;
        let date = header("date").unwrap_or_default().to_owned();
        Ok(Self {
            crc32,
            length,
            date,
        })
    }

    /// Holds the length and the CRC-32 of what has come against what was said.
    fn check(&self, length: usize, found: u32) -> Result<(), AnswerError> {
        if let Some(expected) = self.length.filter(|expected| *expected != length) {
            return Err(AnswerError::Length {
                found: length,
                expected,
            });
        }
        match self.crc32 {
            Some(expected) if expected != found => Err(AnswerError::Checksum { found, expected }),
            _ => Ok(()),
        }
    }
}

/// A body that is another's, exchanged once the whole of it has come and was found good.
struct CheckedBody {
    inner: SdkBody,
    buffer: ReusedBuffer,
    /// Of what has come, made while the processor still has it at hand.
    crc32: crc32fast::Hasher,
    promise: Promise,
    /// `None` when the body has ended, well or not.
    exchange: Option<Exchange>,
}

impl CheckedBody {
    fn take_frame(&mut self, frame: Frame<Bytes>) -> Result<(), AnswerError> {
        // Trailers carry nothing here.
        let Ok(data) = frame.into_data() else {
            return Ok(());
        };
        if self.buffer.len() + data.len() > MAX_BODY {
            return Err(AnswerError::TooLong);
        }
        self.buffer.extend_from_slice(&data);
        self.crc32.update(&data);
        Ok(())
    }

    /// The body is complete: checks it and makes of it what the SDK gets.
    fn finish(&mut self, exchange: Exchange) -> Result<Bytes, AnswerError> {
        let crc32 = mem::take(&mut self.crc32).finalize();
        self.promise.check(self.buffer.len(), crc32)?;
        exchange(CheckedBytes {
            body: self.buffer.take().freeze(),
            had_checksum: self.promise.crc32.is_some(),
            date: mem::take(&mut self.promise.date),
        })
    }
}

impl Body for CheckedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while self.exchange.is_some() {
            let failed = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match self.take_frame(frame) {
                    Ok(()) => continue,
                    Err(error) => error.into(),
                },
                Some(Err(error)) => error,
                None => {
                    let Some(exchange) = self.exchange.take() else {
                        break;
                    };
                    let rest = self.finish(exchange);
                    return Poll::Ready(Some(rest.map(Frame::data).map_err(BoxError::from)));
                }
            };
            self.exchange = None;
            return Poll::Ready(Some(Err(failed)));
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for CheckedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedBody")
            .field("buffered", &self.buffer.len())
            .field("ended", &self.exchange.is_none())
            .finish_non_exhaustive()
    }
}
