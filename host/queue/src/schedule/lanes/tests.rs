use super::*;

fn id(number: u32) -> Id {
    Id::new(std::time::UNIX_EPOCH, number)
}

fn lanes(most_out: usize) -> Lanes {
    Lanes::new(1_000_000, most_out)
}

fn add(
    lanes: &mut Lanes,
    destination: &str,
    class: Class,
    group: u8,
    numbers: std::ops::Range<u32>,
) {
    for number in numbers {
        let lane = lanes.join(destination, class, group);
        lanes.wait(lane, 0, id(number));
    }
}

fn take(lanes: &mut Lanes, count: usize) -> Vec<Id> {
    (0..count).filter_map(|_| lanes.take(10)).map(|(_, id)| id).collect()
}

#[test]
fn destinations_take_turns_whatever_they_have() {
    let mut lanes = lanes(1000);
    add(&mut lanes, "dead.example", Class::Normal, 1, 0..100);
    add(&mut lanes, "small.example", Class::Normal, 1, 1000..1001);
    assert_eq!(take(&mut lanes, 4), [id(0), id(1000), id(1), id(2)]);
}

#[test]
fn senders_to_one_destination_take_turns_whatever_they_have() {
    let mut lanes = lanes(1000);
    add(&mut lanes, "big.example", Class::Normal, 1, 0..100);
    add(&mut lanes, "big.example", Class::Normal, 2, 1000..1002);
    assert_eq!(take(&mut lanes, 5), [id(0), id(1000), id(1), id(1001), id(2)]);
}

#[test]
fn most_turns_are_of_the_highest_class_and_some_of_the_others() {
    let mut lanes = lanes(1000);
    add(&mut lanes, "a.example", Class::Low, 1, 2000..2100);
    add(&mut lanes, "a.example", Class::Normal, 1, 1000..1100);
    add(&mut lanes, "a.example", Class::High, 1, 0..100);
    let order = take(&mut lanes, 160);
    let count = |range: std::ops::Range<u32>| {
        order[..64].iter().filter(|taken| range.clone().any(|number| id(number) == **taken)).count()
    };
    assert_eq!((count(0..100), count(1000..1100), count(2000..2100)), (48, 12, 4));
    assert_eq!(order.len(), 160);
    // What is alone has every turn.
    assert_eq!(take(&mut lanes, 1000).len(), 140);
}

#[test]
fn a_destination_has_only_so_many_out_of_all_its_lanes() {
    let mut lanes = lanes(2);
    add(&mut lanes, "a.example", Class::Normal, 1, 0..3);
    add(&mut lanes, "a.example", Class::High, 2, 10..12);
    assert_eq!(take(&mut lanes, 9), [id(10), id(11)]);
    assert_eq!(lanes.next_due(), None, "nothing to wake up for");
    let lane = lanes.join("a.example", Class::High, 2);
    lanes.back(lane);
    assert_eq!(lanes.next_due(), Some(0));
    assert_eq!(take(&mut lanes, 9), [id(0)]);
}

#[test]
fn nothing_is_taken_before_it_is_due_and_the_earliest_comes_first() {
    let mut lanes = lanes(9);
    let lane = lanes.join("a.example", Class::Normal, 1);
    lanes.wait(lane, 20, id(1));
    lanes.wait(lane, 10, id(2));
    assert_eq!((lanes.take(9), lanes.next_due()), (None, Some(10)));
    assert_eq!(lanes.take(10), Some((lane, id(2))));
    assert_eq!((lanes.take(19), lanes.next_due()), (None, Some(20)));
    lanes.cancel(lane, 20, id(1));
    assert_eq!((lanes.take(30), lanes.next_due()), (None, None));
}

#[test]
fn what_is_cancelled_after_it_was_due_is_not_taken() {
    let mut lanes = lanes(1);
    add(&mut lanes, "a.example", Class::Normal, 1, 0..3);
    assert_eq!(take(&mut lanes, 3), [id(0)]);
    let lane = lanes.join("a.example", Class::Normal, 1);
    lanes.cancel(lane, 0, id(1));
    lanes.back(lane);
    assert_eq!(take(&mut lanes, 3), [id(2)]);
}

#[test]
fn slow_destinations_together_leave_places_for_others() {
    let mut lanes = Lanes::new(100, 20);
    for destination in 0..50 {
        let name = format!("slow-{destination}.example");
        add(&mut lanes, &name, Class::Normal, 1, destination * 100..destination * 100 + 50);
    }
    assert_eq!(take(&mut lanes, 100).len(), 87, "the last eighth is for who has nothing yet");
    add(&mut lanes, "other.example", Class::Normal, 1, 9000..9050);
    assert_eq!(take(&mut lanes, 100).len(), 1);
    let mut few = Lanes::new(100, 20);
    for destination in 0..5 {
        let name = format!("slow-{destination}.example");
        add(&mut few, &name, Class::Normal, 1, destination * 100..destination * 100 + 50);
    }
    let taken = take(&mut few, 100).len();
    assert_eq!(taken, 75, "five destinations have three quarters of the places, not all");
    add(&mut few, "other.example", Class::Normal, 1, 9000..9050);
    assert_eq!(take(&mut few, 100).len(), 5, "a new one gets its share at once");
    let lane = few.join("slow-0.example", Class::Normal, 1);
    (0..10).for_each(|_| few.back(lane));
    assert!(!take(&mut few, 100).is_empty(), "what was kept waiting is woken");
}

#[test]
fn lanes_that_everybody_left_leave_nothing() {
    let mut lanes = lanes(9);
    for number in 0..1000 {
        let lane = lanes.join(&format!("{number}.example"), Class::Low, number as u8);
        lanes.wait(lane, 0, id(number));
        if number % 2 == 0 {
            assert!(lanes.take(0).is_some());
            lanes.back(lane);
        } else {
            lanes.cancel(lane, 0, id(number));
        }
        lanes.leave(lane);
    }
    assert_eq!((lanes.lanes.len(), lanes.destinations.len()), (1, 1));
    assert_eq!((lanes.names.len(), lanes.keys.len(), lanes.alarms.len()), (0, 0, 0));
    assert!(lanes.rings.iter().all(VecDeque::is_empty) && lanes.starved.is_empty());
}
