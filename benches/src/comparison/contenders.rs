//! Who is compared, on which path, and how much of the bench's size each is given.

pub use super::hot_path::Path;

/// What a contender is to the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nobody can do less for the same bytes.
    Limit,
    /// The product.
    Highwater,
    /// The usual way, written for this bench in the same language.
    Typed,
    /// A tool of others, which may not be installed.
    Peer,
}

/// One who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "`title` tells of each what it is")]
pub enum Contender {
    Receive,
    LimitZstd,
    LimitGzip,
    ExportZstd,
    ExportGzip,
    ExportOneWorker,
    TypedExportMiniz,
    TypedExportZlibRs,
    NodeExport,
    Boto3Export,
    AwsCliExport,
    DynamodumpExport,
    DyndumpExport,
    DyneinExport,
    RestoreZstd,
    RestoreGzip,
    TypedRestoreZstd,
    TypedRestoreGzip,
    Boto3Restore,
    EventLines,
    TypedEventLines,
    PackEvents,
    EventLog,
    TypedEventLog,
    RecordLines,
    TypedRecordLines,
    RecordLog,
    TypedRecordLog,
    Materialize,
    RestoreSecond,
    LimitReadZstd,
    LimitReadGzip,
    VerifyZstd,
    VerifyGzip,
    Diff,
}

use Contender as C;

/// What is known of a contender.
#[derive(Clone, Copy, Debug)]
struct Entry {
    who: Contender,
    path: Path,
    role: Role,
    title: &'static str,
    limit: Option<Contender>,
    same_by_highwater: &'static [Contender],
    part_of_size: u64,
}

const fn entry(who: Contender, path: Path, role: Role, title: &'static str) -> Entry {
    Entry {
        who,
        path,
        role,
        title,
        limit: None,
        same_by_highwater: &[],
        part_of_size: 1,
    }
}

impl Entry {
    const fn limited_by(self, limit: Contender) -> Self {
        let limit = Some(limit);
        Self { limit, ..self }
    }

    const fn beside(self, same_by_highwater: &'static [Contender]) -> Self {
        Self {
            same_by_highwater,
            ..self
        }
    }

    const fn on_a_part(self, part_of_size: u64) -> Self {
        Self {
            part_of_size,
            ..self
        }
    }
}

const BOTH: &[Contender] = &[C::ExportZstd, C::ExportGzip];

/// Everyone, in the order of the tables, which is that of [`Contender`].
const ROSTER: [Entry; 35] = {
    use Path::{EventLog, Export, Merge, RecordLog, Restore, Verify};
    use Role::{Highwater, Limit, Peer, Typed};
    [
        entry(C::Receive, Export, Limit, "receive only"),
        entry(
            C::LimitZstd,
            Export,
            Limit,
            "**limit**: receive, find, copy, zstd-1",
        )
        .beside(&[C::ExportZstd]),
        entry(
            C::LimitGzip,
            Export,
            Limit,
            "**limit**: receive, find, copy, gzip",
        )
        .beside(&[C::ExportGzip]),
        entry(
            C::ExportZstd,
            Export,
            Highwater,
            "**Highwater** `backup --compression zstd`",
        )
        .limited_by(C::LimitZstd),
        entry(
            C::ExportGzip,
            Export,
            Highwater,
            "**Highwater** `backup`, gzip",
        )
        .limited_by(C::LimitGzip),
        entry(
            C::ExportOneWorker,
            Export,
            Highwater,
            "**Highwater** `--compression zstd --concurrency 1`",
        )
        .limited_by(C::LimitZstd)
        .beside(&[C::ExportZstd]),
        entry(
            C::TypedExportMiniz,
            Export,
            Typed,
            "SDK's types, serde_json, gzip-6 by miniz_oxide",
        )
        .limited_by(C::LimitGzip)
        .beside(BOTH)
        .on_a_part(5),
        entry(
            C::TypedExportZlibRs,
            Export,
            Typed,
            "SDK's types, serde_json, gzip-6 by zlib-rs",
        )
        .limited_by(C::LimitGzip)
        .beside(BOTH)
        .on_a_part(5),
        entry(
            C::NodeExport,
            Export,
            Peer,
            "Node SDK v3, 4 segments, gzip-6",
        )
        .limited_by(C::LimitGzip)
        .beside(BOTH)
        .on_a_part(10),
        entry(C::Boto3Export, Export, Peer, "boto3, 4 threads, gzip-6")
            .limited_by(C::LimitGzip)
            .beside(BOTH)
            .on_a_part(20),
        entry(C::AwsCliExport, Export, Peer, "AWS CLI `scan` to `gzip -6`")
            .limited_by(C::LimitGzip)
            .beside(BOTH)
            .on_a_part(40),
        entry(
            C::DynamodumpExport,
            Export,
            Peer,
            "dynamodump, no compression",
        )
        .beside(BOTH)
        .on_a_part(20),
        entry(
            C::DyndumpExport,
            Export,
            Peer,
            "dyndump, 4 readers, to `gzip -6`",
        )
        .limited_by(C::LimitGzip)
        .beside(BOTH)
        .on_a_part(20),
        entry(
            C::DyneinExport,
            Export,
            Peer,
            "dynein `export`, no compression",
        )
        .beside(BOTH)
        .on_a_part(5),
        entry(
            C::RestoreZstd,
            Restore,
            Highwater,
            "**Highwater** `restore`, zstd parts",
        ),
        entry(
            C::RestoreGzip,
            Restore,
            Highwater,
            "**Highwater** `restore`, gzip parts",
        ),
        entry(
            C::TypedRestoreZstd,
            Restore,
            Typed,
            "serde_json, SDK's types, zstd parts",
        )
        .beside(&[C::RestoreZstd]),
        entry(
            C::TypedRestoreGzip,
            Restore,
            Typed,
            "serde_json, SDK's types, gzip parts",
        )
        .beside(&[C::RestoreGzip]),
        entry(
            C::Boto3Restore,
            Restore,
            Peer,
            "boto3 `batch_writer`, gzip parts",
        )
        .beside(&[C::RestoreGzip])
        .on_a_part(20),
        entry(C::EventLines, EventLog, Highwater, "**Highwater**, lines"),
        entry(
            C::TypedEventLines,
            EventLog,
            Typed,
            "`aws_lambda_events`, lines",
        )
        .beside(&[C::EventLines]),
        entry(C::PackEvents, EventLog, Limit, "zstd-1 alone").beside(&[C::EventLog]),
        entry(
            C::EventLog,
            EventLog,
            Highwater,
            "**Highwater**, the whole step: lines, zstd-1, S3",
        )
        .limited_by(C::PackEvents),
        entry(
            C::TypedEventLog,
            EventLog,
            Typed,
            "`aws_lambda_events`, lines, zstd-1, S3",
        )
        .limited_by(C::PackEvents)
        .beside(&[C::EventLog]),
        entry(C::RecordLines, RecordLog, Highwater, "**Highwater**, lines"),
        entry(
            C::TypedRecordLines,
            RecordLog,
            Typed,
            "SDK's types, serde_json, lines",
        )
        .beside(&[C::RecordLines]),
        entry(
            C::RecordLog,
            RecordLog,
            Highwater,
            "**Highwater**, bodies: lines, zstd-1",
        ),
        entry(
            C::TypedRecordLog,
            RecordLog,
            Typed,
            "SDK's types, serde_json, bodies: lines, zstd-1",
        )
        .beside(&[C::RecordLog]),
        entry(
            C::Materialize,
            Merge,
            Highwater,
            "**Highwater** `materialize`",
        ),
        entry(
            C::RestoreSecond,
            Merge,
            Highwater,
            "**Highwater** `restore --at`",
        ),
        entry(
            C::LimitReadZstd,
            Verify,
            Limit,
            "**limit**: receive, decompress, count lines, zstd",
        )
        .beside(&[C::VerifyZstd]),
        entry(
            C::LimitReadGzip,
            Verify,
            Limit,
            "**limit**: receive, decompress, count lines, gzip",
        )
        .beside(&[C::VerifyGzip]),
        entry(
            C::VerifyZstd,
            Verify,
            Highwater,
            "**Highwater** `verify`, zstd",
        )
        .limited_by(C::LimitReadZstd),
        entry(
            C::VerifyGzip,
            Verify,
            Highwater,
            "**Highwater** `verify`, gzip",
        )
        .limited_by(C::LimitReadGzip),
        entry(
            C::Diff,
            Verify,
            Highwater,
            "**Highwater** `diff` of a backup with itself, zstd",
        )
        .limited_by(C::LimitReadZstd),
    ]
};

impl Contender {
    /// All of them, in the order of the tables.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        ROSTER.iter().map(|entry| entry.who)
    }

    /// All of one path.
    pub fn on(path: Path) -> impl Iterator<Item = Self> + Clone {
        Self::all().filter(move |contender| contender.path() == path)
    }

    fn entry(self) -> &'static Entry {
        // The roster has everyone in this very order.
        &ROSTER[self as usize]
    }

    /// Where it runs.
    #[must_use]
    pub fn path(self) -> Path {
        self.entry().path
    }

    /// What it is, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.entry().title
    }

    /// What it is to the others.
    #[must_use]
    pub fn role(self) -> Role {
        self.entry().role
    }

    /// The limit for what it makes.
    #[must_use]
    pub fn limit(self) -> Option<Self> {
        self.entry().limit
    }

    /// The rows of Highwater that do the same, the first of which the promises are about.
    #[must_use]
    pub fn same_by_highwater(self) -> &'static [Self] {
        self.entry().same_by_highwater
    }

    /// It gets this part of the bench's sizes: what needs a hundred times the CPU would take all day. The figures are
    /// slopes, so that sizes may differ.
    #[must_use]
    pub fn part_of_size(self) -> u64 {
        self.entry().part_of_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or everyone would have somebody else's title.
    #[test]
    fn the_roster_has_everyone_in_order() {
        for (index, entry) in ROSTER.iter().enumerate() {
            assert_eq!(entry.who as usize, index, "{entry:?}");
        }
    }

    #[test]
    fn limits_and_counterparts_are_of_the_same_path_and_kind() {
        for who in Contender::all() {
            if let Some(limit) = who.limit() {
                assert_eq!((limit.path(), limit.role()), (who.path(), Role::Limit));
            }
            for same in who.same_by_highwater() {
                assert_eq!((same.path(), same.role()), (who.path(), Role::Highwater));
            }
            assert!(who.part_of_size() > 0);
        }
        for path in Path::ALL {
            let ours = |who: &Contender| who.role() == Role::Highwater;
            assert!(Contender::on(path).any(|who| ours(&who)), "{path}");
        }
    }
}
