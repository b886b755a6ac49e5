//! Streams of two sizes, to be read by `GetRecords`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::process::Command;

use super::{ServerClock, Setup, StageError, Trouble, require, run_to_end};
use crate::changes::{Changes, Keys};
use crate::comparison::contenders::Contender;
use crate::comparison::figures::Cost;
use crate::consume;
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::dynamodb::stream::ReplayStream;
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// Shards of a stream.
const SHARDS: u64 = 4;
/// The changes of which the replayed answers are made.
const CHANGES: u64 = 4000;

/// The streams, and who serves them.
#[derive(Debug)]
pub struct RecordStage {
    server: ReplayServer,
    streams: BTreeMap<u64, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    arn: String,
    records: u64,
    bytes: u64,
}

impl RecordStage {
    /// Makes a stream for each size.
    pub async fn set(
        setup: &Setup,
        set: DataSet,
        contenders: &[Contender],
    ) -> Result<Self, StageError> {
        let table = Arc::new(ReplayTable::new(set, 1)?);
        let arn = consume::stream_arn(set);
        // Enough keys that half of the records have both images.
        let keys = Keys::Few(CHANGES / 4);
        let changes = Changes::new(table, CHANGES, keys, consume::BEGIN, arn);
        let mut made = BTreeMap::new();
        for bytes in contenders.iter().flat_map(|it| setup.sizes_of(*it)) {
            let arn = consume::stream_arn_of(&format!("{set}-{bytes}"));
            let stream = ReplayStream::new(&changes, &arn, SHARDS, bytes);
            made.insert(bytes, stream);
        }
        let known = |stream: &ReplayStream| Known {
            arn: stream.arn().to_owned(),
            records: stream.records(),
            bytes: stream.bytes(),
        };
        let streams = made.iter().map(|(bytes, stream)| (*bytes, known(stream)));
        let streams = streams.collect();
        let tables = Tables::new([]).with_streams(made.into_values());
        let server = ReplayServer::over(0, tables, Sink::dropping()).await?;
        Ok(Self { server, streams })
    }

    /// Reads a stream once.
    pub async fn run(
        &self,
        setup: &Setup,
        contender: Contender,
        at: usize,
    ) -> Result<Cost, Trouble> {
        let known = self.streams.get(&setup.sizes_of(contender)[at]);
        let known = known.ok_or(Trouble::NotInstalled)?;
        let mut command = Command::new(&setup.contender);
        command.env_clear().arg(self.server.endpoint_url());
        command.arg("records").arg(&known.arn);
        let (typed, bodies) = match contender {
            Contender::RecordLines => (false, false),
            Contender::RecordLog => (false, true),
            Contender::TypedRecordLines => (true, false),
            _ => (true, true),
        };
        command.args(typed.then_some("--typed"));
        command.args(bodies.then_some("--bodies"));
        let before = self.server.served_records();
        let clock = ServerClock::start()?;
        let (usage, said) = run_to_end(command).await?;
        let said = said.unwrap_or_default();
        let served = self.server.served_records() - before;
        require("records served", served, known.records)?;
        require("records", said.items, known.records)?;
        if !typed {
            require("bytes of records", said.bytes, known.bytes)?;
        }
        let stored_bytes = if bodies { said.stored_bytes } else { 0 };
        Ok(clock.cost(&usage, known.bytes, stored_bytes)?)
    }
}
