// SPDX-License-Identifier: GPL-2.0

//! The room `tables`.

use crate::tables::{Sparse, Table};
use kernel::{alloc, prelude::*, sync::Arc};
use std::cell::Cell;
use std::rc::Rc;

#[test]
fn sparse_has_what_was_put_there_once() {
    let table = Sparse::default();
    let numbers = [0, 1, 255, 256, 65_535, 65_536, 70_000, (1 << 24) - 1];
    for number in numbers {
        assert_eq!(table.get(number), None);
        assert_eq!(table.populate(number, number), Ok(true));
        assert_eq!(table.populate(number, 7777), Ok(false));
    }
    for number in numbers {
        assert_eq!(table.get(number), Some(&number));
        // Neighbours are not there, unless they are in the list.
        let next = number.wrapping_add(1);
        assert_eq!(table.get(next).is_some(), numbers.contains(&next), "{next}");
    }
    assert_eq!(table.populate(1 << 24, 1), Err(EFBIG));
    assert_eq!(table.populate(u32::MAX, 1), Err(EFBIG));
    assert_eq!((table.get(1 << 24), table.get(u32::MAX)), (None, None));
}

#[test]
fn sparse_takes_memory_for_neighbourhoods_only() {
    let before = alloc::in_use();
    let table = Sparse::default();
    table.populate(5, 0_u64).unwrap();
    let one = alloc::in_use() - before;
    assert!((0..256).all(|number| table.populate(number, 0) == Ok(number != 5)));
    assert_eq!(
        alloc::in_use() - before,
        one,
        "neighbours are there already"
    );
    table.populate(1 << 20, 0).unwrap();
    assert!(alloc::in_use() - before <= 2 * one, "two branches");
    drop(table);
    assert_eq!(alloc::in_use(), before);
}

#[test]
fn sparse_without_memory_is_as_before() {
    let table = Sparse::default();
    // The root, then the node below it, then the one that has the values.
    for after in [0, 1, 1] {
        alloc::fail_in(Some(after));
        assert_eq!(table.populate(9, 9), Err(ENOMEM));
        assert_eq!(table.get(9), None);
    }
    assert_eq!(table.populate(9, 9), Ok(true));
}

/// Counts how many there are.
struct Value(Rc<Cell<i32>>);

impl Value {
    fn new(count: &Rc<Cell<i32>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn table() -> (Arc<Table<u32, Value>>, Rc<Cell<i32>>) {
    (Table::new(GFP_KERNEL).unwrap(), Rc::default())
}

#[test]
fn table_keeps_a_value_as_long_as_it_is_used() {
    let (table, count) = table();
    let first = Table::get(&table, 1, || Ok(Value::new(&count))).unwrap();
    let second = Table::get(&table, 1, || panic!("it is there")).unwrap();
    let third = second.clone();
    assert_eq!((*first.key(), count.get(), table.len()), (1, 1, 1));
    drop((first, third));
    assert_eq!((count.get(), table.len()), (1, 1), "one user is left");
    drop(second);
    assert_eq!((count.get(), table.len()), (0, 0));
    let again = Table::get(&table, 1, || Ok(Value::new(&count))).unwrap();
    assert_eq!((count.get(), table.len()), (1, 1));
    drop(again);
}

#[test]
fn table_has_the_value_of_whoever_was_first() {
    let (table, count) = table();
    let mut other = None;
    let ours = Table::get(&table, 1, || {
        // While this is made, without the lock, another one is.
        other = Some(Table::get(&table, 1, || Ok(Value::new(&count)))?);
        Ok(Value::new(&count))
    });
    let ours = ours.unwrap();
    assert_eq!((count.get(), table.len()), (1, 1), "the second one went");
    drop(other);
    assert_eq!(count.get(), 1);
    drop(ours);
    assert_eq!((count.get(), table.len()), (0, 0));
}

#[test]
fn table_has_nothing_of_what_failed() {
    let (table, count) = table();
    let failed = Table::get(&table, 1, || Err(EIO));
    assert_eq!(failed.err(), Some(EIO));
    for after in 0..2 {
        alloc::fail_in(Some(after));
        let failed = Table::get(&table, 1, || Ok(Value::new(&count)));
        assert_eq!(failed.err(), Some(ENOMEM));
        assert_eq!((count.get(), table.len()), (0, 0));
    }
}
