//! Backups to restore and to verify, of all sizes that contenders are given, made by the product beforehand.

use std::collections::BTreeMap;
use std::ffi::OsString;

use tokio::process::Command;

use super::{ServerClock, Setup, StageError, Trouble, require, run_to_end};
use crate::backup::{self, SEGMENTS};
use crate::command::Highwater;
use crate::compare;
use crate::comparison::contenders::Contender;
use crate::comparison::figures::Cost;
use crate::comparison::peers::Errand;
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::item_sum::ItemSum;
use crate::restore::{self, Source};
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// The bucket of the backups.
const BUCKET: &str = "replay";

/// The backups, and who serves them.
#[derive(Debug)]
pub struct BackupStage {
    server: ReplayServer,
    highwater: Highwater,
    backups: BTreeMap<(u64, &'static str), Made>,
    /// Restores so far: each has a table of its own.
    restores: usize,
}

#[derive(Clone, Debug)]
struct Made {
    url: String,
    /// Of the parts, with the slash at its end.
    prefix: String,
    sum: ItemSum,
    stored_bytes: u64,
}

/// How the parts are compressed that a contender reads.
fn compression(contender: Contender) -> &'static str {
    match contender {
        Contender::RestoreGzip
        | Contender::TypedRestoreGzip
        | Contender::Boto3Restore
        | Contender::LimitReadGzip
        | Contender::VerifyGzip => "gzip",
        _ => "zstd",
    }
}

impl BackupStage {
    /// Makes a table for every size that these contenders are given, and the backups of it that they read.
    pub async fn set(
        setup: &Setup,
        set: DataSet,
        contenders: &[Contender],
    ) -> Result<Self, StageError> {
        let name = |bytes: u64| format!("{set}-{bytes}");
        let mut wanted = BTreeMap::new();
        let mut tables = BTreeMap::new();
        for contender in contenders {
            for bytes in setup.sizes_of(*contender) {
                let table = ReplayTable::new(set, bytes)?.named(&name(bytes));
                let sum = tables.get(&bytes).map(|(sum, _)| *sum);
                let sum = sum.unwrap_or_else(|| table.item_sum());
                wanted.insert((bytes, compression(*contender)), sum);
                tables.insert(bytes, (sum, table));
            }
        }
        let tables = Tables::new(tables.into_values().map(|(_, table)| table));
        let server = ReplayServer::over(0, tables, Sink::on_disk()?).await?;
        let highwater = Highwater::new(&setup.highwater, &server)?;
        let mut backups = BTreeMap::new();
        for ((bytes, compression), sum) in wanted {
            let flags = ["--compression", compression].map(OsString::from);
            let made = backup::run(&highwater, &server, &name(bytes), SEGMENTS, &flags).await?;
            let root = made.url.strip_prefix(&format!("s3://{BUCKET}/"));
            let prefix = format!("{}data/", root.unwrap_or_default());
            let made = Made {
                prefix,
                url: made.url,
                sum,
                stored_bytes: made.stored_bytes,
            };
            backups.insert((bytes, compression), made);
        }
        Ok(Self {
            server,
            highwater,
            backups,
            restores: 0,
        })
    }

    /// Restores or reads one backup once.
    pub async fn run(
        &mut self,
        setup: &Setup,
        contender: Contender,
        at: usize,
    ) -> Result<Cost, Trouble> {
        use Contender as C;
        let size = setup.sizes_of(contender)[at];
        let made = self.backups.get(&(size, compression(contender)));
        let Some(made) = made.cloned() else {
            return Err(Trouble::NotInstalled);
        };
        self.restores += 1;
        let target = format!("restored-{}", self.restores);
        let (url, sum) = (made.url.as_str(), made.sum);
        let (highwater, server) = (&self.highwater, &self.server);
        let (mut bytes, mut stored_bytes) = (sum.bytes, made.stored_bytes);
        let clock = ServerClock::start()?;
        let usage = match contender {
            C::RestoreZstd | C::RestoreGzip => {
                let source = Source {
                    backup: url,
                    key: None,
                };
                restore::run(highwater, server, source, &target, sum).await?
            }
            C::VerifyZstd | C::VerifyGzip => compare::verify(highwater, url, sum).await?,
            C::Diff => {
                bytes *= 2;
                stored_bytes *= 2;
                compare::equal(highwater, (url, url), sum).await?
            }
            _ => self.other(setup, contender, &made, &target).await?,
        };
        Ok(clock.cost(&usage, bytes, stored_bytes)?)
    }

    async fn other(
        &self,
        setup: &Setup,
        contender: Contender,
        made: &Made,
        target: &str,
    ) -> Result<crate::process::Usage, Trouble> {
        let (endpoint_url, prefix) = (self.server.endpoint_url(), made.prefix.as_str());
        let own = |arguments: &[&str]| {
            let mut command = Command::new(&setup.contender);
            command.env_clear().arg(endpoint_url).args(arguments);
            command
        };
        let is_restore = !matches!(
            contender,
            Contender::LimitReadZstd | Contender::LimitReadGzip
        );
        let command = match contender {
            Contender::LimitReadZstd | Contender::LimitReadGzip => {
                own(&["limit-read", BUCKET, prefix])
            }
            Contender::TypedRestoreZstd | Contender::TypedRestoreGzip => {
                own(&["typed-restore", BUCKET, prefix, target])
            }
            peer => {
                let errand = Errand {
                    endpoint_url,
                    table: target,
                    parts: (BUCKET, prefix),
                };
                let command = setup.peers.command(peer, &errand);
                command.ok_or(Trouble::NotInstalled)?
            }
        };
        if is_restore {
            self.server.make_table(target);
        }
        let (usage, said) = run_to_end(command).await?;
        let said = said.unwrap_or_default();
        require("items read", said.items, made.sum.items)?;
        // A tool that does not tell bytes spells items in its own way.
        let spells_alike = said.bytes > 0;
        if spells_alike {
            require("bytes of items read", said.bytes, made.sum.bytes)?;
        }
        if is_restore {
            let written = self.server.written(target).unwrap_or_default();
            require("items written", written.items, made.sum.items)?;
            if spells_alike {
                require("bytes of items written", written.bytes, made.sum.bytes)?;
            }
        }
        Ok(usage)
    }
}
