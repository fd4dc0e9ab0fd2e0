//! A group's state for people and metrics.

use tidemill_core::slots::MemberId;

use super::core::{Core, Member, Share};
use super::flow::Flow;
use super::queue::FlowIndex;
use crate::info::{GroupPartitionInfo, MemberInfo};

impl Core {
    /// The members, in the order in which they came.
    pub(super) fn member_infos(&self) -> Vec<MemberInfo> {
        let members = self.members.iter().map(|(id, member)| MemberInfo {
            id: id.0,
            slots: shares_of(self, member)
                .map(|share| share.slots.held_by(*id))
                .sum(),
            in_flight: self.flows.iter().map(|flow| in_flight(flow, *id)).sum(),
            topics: shares_of(self, member)
                .map(|share| share.name.clone())
                .collect(),
        });
        members.collect()
    }

    /// The partitions that the group reads or has read since the broker was opened.
    pub(super) fn partition_infos(&self) -> Vec<GroupPartitionInfo> {
        let there = |flow: &&Flow| self.shares.get(flow.topic_index).is_some_and(|s| !s.gone);
        let infos = self
            .flows
            .iter()
            .filter(there)
            .map(|flow| GroupPartitionInfo {
                topic: flow.topic.clone(),
                partition: flow.id.partition,
                position: flow.cursor.position(),
                settled_above: flow.cursor.settled_above(),
                end: flow.next_read,
                high_watermark: flow.next_read,
                lag: 0,
                in_flight: flow.in_flight.len(),
                paused: flow.paused(),
                damage: flow.damage.clone(),
            });
        infos.collect()
    }

    /// Remembers why a partition cannot be read.
    pub(super) fn note_damage(&mut self, index: FlowIndex, why: String) {
        if let Some(flow) = self.flows.get_mut(index.0) {
            flow.damage = Some(why);
        }
    }
}

fn shares_of<'a>(core: &'a Core, member: &'a Member) -> impl Iterator<Item = &'a Share> {
    member
        .topics
        .iter()
        .filter_map(|place| core.shares.get(*place))
}

fn in_flight(flow: &Flow, member: MemberId) -> usize {
    let flights = flow.in_flight.values();
    flights.filter(|flight| flight.member == member).count()
}
