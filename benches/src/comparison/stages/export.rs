//! Tables to export, of all sizes that contenders are given, on a server that drops what it is sent.

use std::collections::BTreeMap;
use std::ffi::OsString;

use tokio::process::Command;

use super::{ServerClock, Setup, StageError, Trouble, require, run_to_end};
use crate::backup::{self, SEGMENTS};
use crate::command::Highwater;
use crate::comparison::contenders::Contender;
use crate::comparison::figures::Cost;
use crate::comparison::peers::Errand;
use crate::contender::Sums;
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// The tables, and who serves them.
#[derive(Debug)]
pub struct ExportStage {
    server: ReplayServer,
    /// By the bytes that were asked for: what the table has.
    tables: BTreeMap<u64, TableSums>,
    set: DataSet,
}

#[derive(Clone, Copy, Debug)]
struct TableSums {
    items: u64,
    bytes: u64,
}

/// The name of the table of so many bytes.
fn name(set: DataSet, bytes: u64) -> String {
    format!("{set}-{bytes}")
}

impl ExportStage {
    /// Makes a table for every size that these contenders are given.
    pub async fn set(
        setup: &Setup,
        set: DataSet,
        contenders: &[Contender],
    ) -> Result<Self, StageError> {
        let mut replayed = BTreeMap::new();
        for bytes in contenders.iter().flat_map(|it| setup.sizes_of(*it)) {
            let table = ReplayTable::new(set, bytes)?.named(&name(set, bytes));
            replayed.insert(bytes, table);
        }
        let sums = |table: &ReplayTable| TableSums {
            items: table.items(),
            bytes: table.item_bytes(),
        };
        let tables = replayed.iter().map(|(bytes, table)| (*bytes, sums(table)));
        let tables = tables.collect();
        let replayed = Tables::new(replayed.into_values());
        let server = ReplayServer::over(0, replayed, Sink::dropping()).await?;
        Ok(Self {
            server,
            tables,
            set,
        })
    }

    /// Exports one table once.
    pub async fn run(
        &self,
        setup: &Setup,
        contender: Contender,
        at: usize,
    ) -> Result<Cost, Trouble> {
        let asked = setup.sizes_of(contender)[at];
        let table = name(self.set, asked);
        let Some(expected) = self.tables.get(&asked) else {
            return Err(Trouble::NotInstalled);
        };
        let before = self.server.served();
        let clock = ServerClock::start()?;
        let (usage, said) = match contender {
            Contender::ExportZstd => self.highwater(setup, &table, "zstd", "4").await?,
            Contender::ExportOneWorker => self.highwater(setup, &table, "zstd", "1").await?,
            Contender::ExportGzip => self.highwater(setup, &table, "gzip", "4").await?,
            _ => run_to_end(self.command(setup, contender, &table)?).await?,
        };
        let said = said.unwrap_or_default();
        let cost = clock.cost(&usage, expected.bytes, said.stored_bytes)?;
        setup.peers.clean();
        self.server.forget_objects();
        let served = self.server.served();
        require("items served", served.items - before.items, expected.items)?;
        if contender == Contender::Receive {
            let received = served.wire_bytes - before.wire_bytes;
            require("bytes received", said.bytes, received)?;
        } else if said != Sums::default() {
            require("items exported", said.items, expected.items)?;
            require("bytes of items exported", said.bytes, expected.bytes)?;
        }
        Ok(cost)
    }

    async fn highwater(
        &self,
        setup: &Setup,
        table: &str,
        compression: &str,
        workers: &str,
    ) -> Result<(crate::process::Usage, Option<Sums>), Trouble> {
        let highwater = Highwater::new(&setup.highwater, &self.server)?;
        let flags = ["--compression", compression, "--concurrency", workers].map(OsString::from);
        let run = backup::run(&highwater, &self.server, table, SEGMENTS, &flags).await?;
        let sums = Sums {
            items: run.served.items,
            bytes: run.item_bytes,
            stored_bytes: run.stored_bytes,
        };
        Ok((run.usage, Some(sums)))
    }

    fn command(
        &self,
        setup: &Setup,
        contender: Contender,
        table: &str,
    ) -> Result<Command, Trouble> {
        let endpoint_url = self.server.endpoint_url();
        let arguments: &[&str] = match contender {
            Contender::Receive => &["receive", table],
            Contender::LimitZstd => &["limit", table, "zstd"],
            Contender::LimitGzip => &["limit", table, "gzip"],
            Contender::TypedExportMiniz => &["typed-export", table],
            Contender::TypedExportZlibRs => &["typed-export", table, "--zlib-rs"],
            peer => {
                let errand = Errand {
                    endpoint_url,
                    table,
                    parts: ("", ""),
                };
                let command = setup.peers.command(peer, &errand);
                return command.ok_or(Trouble::NotInstalled);
            }
        };
        let mut command = Command::new(&setup.contender);
        command.env_clear().arg(endpoint_url).args(arguments);
        Ok(command)
    }
}
