//! Nested prefixes → ranges side by side.

use super::link::{Cover, Links};

/// An address as a number that has a successor.
pub(in crate::tables) trait Address: Copy + Ord {
    fn successor(self) -> Option<Self>;
}

impl Address for u32 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// A prefix with the first of its links.
#[derive(Clone, Copy, Debug)]
pub(in crate::tables) struct Node<A> {
    pub first: A,
    pub last: A,
    pub link: u32,
}

/// From `start` on, up to the next range, `link` applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tables) struct Range<A> {
    pub start: A,
    pub link: Option<u32>,
}

/// What became of the nodes.
#[derive(Debug)]
pub(in crate::tables) struct Flattened<A> {
    /// Sorted; before the first, nothing applies.
    pub ranges: Vec<Range<A>>,
    /// Links of nodes inside exceptions.
    pub excepted: Vec<u32>,
    /// Links whose chain has an end out of reach.
    pub out_of_reach: Vec<u32>,
}

/// Flattens nodes that are sorted by first address, the larger first; each gets the next larger one to take over from it.
pub(in crate::tables) fn flatten<A: Address>(nodes: &[Node<A>], links: &mut Links) -> Flattened<A> {
    let mut flattened = Flattened { ranges: Vec::new(), excepted: Vec::new(), out_of_reach: Vec::new() };
    let mut open: Vec<&Node<A>> = Vec::new();
    for node in nodes {
        while let Some(ended) = open.pop_if(|outer| outer.last < node.first) {
            close(&mut flattened.ranges, ended, &open);
        }
        match links.cover(node.link, open.last().map(|outer| outer.link)) {
            Cover::Excepted => {
                flattened.excepted.push(node.link);
                continue;
            }
            Cover::OutOfReach => flattened.out_of_reach.push(node.link),
            Cover::Kept => {}
        }
        start(&mut flattened.ranges, node.first, Some(node.link));
        open.push(node);
    }
    while let Some(ended) = open.pop() {
        close(&mut flattened.ranges, ended, &open);
    }
    flattened
}

fn close<A: Address>(ranges: &mut Vec<Range<A>>, ended: &Node<A>, open: &[&Node<A>]) {
    if let Some(after) = ended.last.successor() {
        start(ranges, after, open.last().map(|outer| outer.link));
    }
}

fn start<A: Address>(ranges: &mut Vec<Range<A>>, start: A, link: Option<u32>) {
    if ranges.last().is_some_and(|last| last.start == start) {
        ranges.pop();
    }
    if ranges.last().and_then(|last| last.link) != link {
        ranges.push(Range { start, link });
    }
}

/// The link that applies to an address.
pub(in crate::tables) fn covering<A: Address>(ranges: &[Range<A>], address: A) -> Option<u32> {
    let after = ranges.partition_point(|range| range.start <= address);
    ranges.get(after.checked_sub(1)?)?.link
}
