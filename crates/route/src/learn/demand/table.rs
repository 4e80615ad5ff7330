//! What is known under each key: a hash table for keys that are hashes already.
//!
//! Every request looks some twenty keys up, and twenty again when its answer is in. Keys are well spread, so that the
//! place of one is its lowest bits, or the next free place after it; nothing is taken out but by building anew.

use super::node::Node;

/// Nodes by their keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// [`FREE`] where there is none; a power of two of them, or none at all.
    keys: Vec<u64>,
    nodes: Vec<Node>,
    len: usize,
}

impl Table {
    /// The node of `key`, new if there was none.
    #[inline]
    pub(crate) fn entry(&mut self, key: u64) -> &mut Node {
        if self.keys.len() < 2 * (self.len + 1) {
            self.grow();
        }
        let place = self.place(key);
        if self.keys[place] == FREE {
            self.keys[place] = named(key);
            self.len += 1;
        }
        &mut self.nodes[place]
    }

    /// The node of `key`, if there is one.
    pub(crate) fn find(&self, key: u64) -> Option<&Node> {
        if self.keys.is_empty() {
            return None;
        }
        let place = self.place(key);
        (self.keys[place] != FREE).then(|| &self.nodes[place])
    }

    /// Keeps the nodes that are `wanted`.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&Node) -> bool) {
        let kept = self.iter().filter(|(_, node)| wanted(node));
        let kept: Vec<(u64, Node)> = kept.map(|(key, node)| (key, *node)).collect();
        *self = kept.into_iter().collect();
    }

    /// All nodes with their keys, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Node)> {
        let all = self.keys.iter().copied().zip(&self.nodes);
        all.filter(|(key, _)| *key != FREE)
    }

    /// As [`Self::iter`], to change them.
    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let all = self.keys.iter().zip(&mut self.nodes);
        all.filter(|(key, _)| **key != FREE).map(|(_, node)| node)
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Where `key` is, or is to be. There is always a free place to end at.
    #[expect(clippy::cast_possible_truncation, reason = "only low bits are wanted")]
    fn place(&self, key: u64) -> usize {
        let key = named(key);
        let mask = self.keys.len() - 1;
        let mut place = key as usize & mask;
        while self.keys[place] != key && self.keys[place] != FREE {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        let room = (2 * self.keys.len()).max(LEAST);
        let mut grown = Self {
            keys: vec![FREE; room],
            nodes: vec![Node::default(); room],
            len: self.len,
        };
        for (key, node) in self.iter() {
            let place = grown.place(key);
            grown.keys[place] = key;
            grown.nodes[place] = *node;
        }
        *self = grown;
    }
}

impl FromIterator<(u64, Node)> for Table {
    fn from_iter<T: IntoIterator<Item = (u64, Node)>>(nodes: T) -> Self {
        let mut table = Self::default();
        for (key, node) in nodes {
            *table.entry(key) = node;
        }
        table
    }
}

/// The key by which a place is known: anything but [`FREE`].
const fn named(key: u64) -> u64 {
    if key == FREE { 1 } else { key }
}

const FREE: u64 = 0;
/// Places of a table that holds anything.
const LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn node(used: u32) -> Node {
        Node {
            used,
            ..Node::default()
        }
    }

    #[test]
    fn an_empty_table_knows_nothing() {
        let mut table = Table::default();
        assert_eq!(table.find(3), None);
        assert_eq!(table.find(0), None);
        table.retain(|_| true);
        assert_eq!((table.len(), table.iter().count()), (0, 0));
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(entries in prop::collection::vec((0..300_u64, 0..1000_u32), 0..600), few: bool) {
            // Keys that share their low bits, as badly spread as can be, and the key that marks a free place.
            let key = |number: u64| if few { number % 7 } else { number << 40 };
            let mut table = Table::default();
            let mut map = HashMap::new();
            for (number, used) in &entries {
                *table.entry(key(*number)) = node(*used);
                map.insert(named(key(*number)), *used);
            }
            let held: HashMap<u64, u32> = table.iter().map(|(key, node)| (key, node.used)).collect();
            prop_assert_eq!(&held, &map);
            prop_assert_eq!(table.len(), map.len());
            table.retain(|node| node.used % 2 == 0);
            map.retain(|_, used| *used % 2 == 0);
            for number in 0..300 {
                let found = table.find(key(number)).map(|node| node.used);
                prop_assert_eq!(found, map.get(&named(key(number))).copied());
            }
            prop_assert_eq!(table.len(), map.len());
        }
    }
}
