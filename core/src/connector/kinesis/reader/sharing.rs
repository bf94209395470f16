//! The shards of an application: what its leases say is read here, and how far it was read is written there.

use std::sync::Arc;

use super::{Answer, Reader};
use crate::connector::kinesis::event::Event;
use crate::connector::kinesis::lease::{Lease, Write};
use crate::connector::kinesis::leases::{At, Job, Leases, Outcome};
use crate::connector::kinesis::position::Checkpoint;
use crate::connector::kinesis::shards::Lineage;
use crate::error::Result;

impl Reader {
    /// Reads the lease table of an application, or makes it.
    pub(super) async fn begin_sharing(&mut self, application: String) -> Result<()> {
        let at = At { session: Arc::clone(&self.session), name: application };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let me = format!("{}:{}:{:x}", host.trim(), std::process::id(), self.timer.wall());
        let (leases, checkpoints) = Leases::begin(&at, me, self.reading.failover, self.timer.monotonic()).await?;
        self.lineage = Lineage::new(self.reading.shards_start(), checkpoints);
        self.sharing = Some((leases, at));
        Ok(())
    }

    /// Gives up what is another's, and asks for what is due.
    pub(super) fn see_to_leases(&mut self, now: u64) {
        let Some((leases, at)) = &mut self.sharing else { return };
        if let Some(wanted) = self.setting.checkpoints.take() {
            let named = |(id, number): (&String, &u32)| Some((id.clone(), wanted.checkpoints.get(number)?.clone()));
            leases.commit(&wanted, self.numbers.iter().filter_map(named));
        }
        if let Some((asked, failed)) = leases.take_done(now) {
            self.setting.checkpoints.done(asked, failed);
        }
        let chance = (self.timer.wall() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for job in leases.jobs(now, chance) {
            let at = at.clone();
            self.answers.spawn(async move {
                match job {
                    Job::Scan => Answer::Scanned(at.scan().await),
                    Job::Write(write) => {
                        let outcome = at.write(&write).await;
                        Answer::Written(write, outcome)
                    }
                }
            });
        }
        let lost: Vec<u32> = self.reels.values().filter(|reel| !leases.holds(&reel.id, now)).map(|reel| reel.number).collect();
        self.lose(lost);
    }

    /// Stops reading shards that are others' now.
    fn lose(&mut self, lost: Vec<u32>) {
        if lost.is_empty() {
            return;
        }
        for number in &lost {
            let Some(reel) = self.reels.remove(number) else { continue };
            self.behind.remove(number);
            tracing::info!(shard = reel.id, "another program reads the shard from now on");
            if let Some(checkpoint) = self.sharing.as_ref().and_then(|(leases, _)| leases.checkpoint(&reel.id)) {
                self.lineage.read_to(&reel.id, checkpoint.clone());
            }
        }
        self.is_stale = true;
        self.outbox.push_back(Event::Lost(lost));
    }

    /// Takes the lease table's rows in.
    pub(super) fn scanned(&mut self, list: Result<Vec<Lease>>) -> Result<()> {
        let now = self.timer.monotonic();
        let Some((leases, _)) = &mut self.sharing else { return Ok(()) };
        let scanned = leases.scanned(list, now)?;
        // Of shards that others have found before this program lists them.
        scanned.shards.into_iter().for_each(|shard| self.lineage.told(shard));
        for (id, checkpoint) in scanned.others {
            if self.lineage.checkpoints().get(&id) != Some(&checkpoint) {
                self.lineage.read_to(&id, checkpoint);
                self.is_stale = true;
            }
        }
        for id in scanned.gone {
            self.lineage.forget(&id);
            self.is_stale = true;
        }
        Ok(())
    }

    /// Takes note of what became of a write.
    pub(super) fn written(&mut self, write: &Write, outcome: Outcome) -> Result<()> {
        let Some((leases, _)) = &mut self.sharing else { return Ok(()) };
        if let Some((id, checkpoint)) = leases.written(write, outcome)? {
            self.lineage.read_to(&id, checkpoint);
            self.is_stale = true;
        }
        Ok(())
    }

    /// Makes leases for shards that are to be read; `mine` if they have come of one that was read here.
    pub(super) fn make_leases(&mut self, entries: Vec<(String, Checkpoint)>, mine: bool) {
        let now = self.timer.monotonic();
        let Some((leases, _)) = &mut self.sharing else { return };
        for (id, checkpoint) in entries {
            if let Some(shard) = self.lineage.shard(&id) {
                leases.create(shard, checkpoint, mine, now);
            }
        }
    }
}
