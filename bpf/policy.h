/*
 * policy: the interpreter of records: it judges a packet by stages, counts, and tells of what it denies.
 */
#pragma once
#include "packet.h"

/* So many records are run for a packet at most: the product. A program whose loops are short is verified quickly. */
enum { ROUNDS = 64, STEPS = 1024 };

/* Rounds in which a staged stage is asked are apart, and as many: it takes none from those that decide. */
enum { ALL_ROUNDS = 2 * ROUNDS + 8 };

/* In place of a stage: the workload that the packet goes to is unknown; a segment of TCP belongs to no known flow. */
#define UNKNOWN (~0U)
#define INVALID (~1U)

/* More than one packet ever meets; a power of two. */
enum { MOST_STAGES = 4 };

/* A packet on its way through the interpreter. */
struct run {
	struct packet packet;
	__u32 generation;
	__u32 flags; /* of the state */
	__u32 failsafes;
	__u32 back; /* where the policy was called from */
	__u32 passed; /* where a rule that passes goes */
	__u32 decides_at; /* a staged stage is asked, and this is where the one that decides begins; 0: none is asked */
	__u32 has_counted; /* a staged stage was asked in this round */
	__u32 rounds; /* in which none was */
	__u32 staged_rounds;
	__u32 stages[MOST_STAGES]; /* first records of the stages that judge it, in order */
	__u32 count; /* of stages */
	__u32 next; /* of stages */
	__u32 is_by_rule; /* a rule of the last stage has allowed it */
	int verdict;
	__u32 bytes; /* of the packet, as it is counted */
	__u32 interfaces[2]; /* that it came from and leaves by; 0: the node itself */
	__u32 has_key;
	struct connection_key key; /* as it is here */
	struct connection_key turned;
	struct fragment_key piece; /* of a packet in pieces, as it is here */
	struct connection fresh; /* its flow as a new one */
	struct event event;
};

struct {
	NUMBER(type, MAP_PER_CPU_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct run);
} runs SECTION(".maps");

INLINE int drop(__u32 why)
{
	__u64 *count = map_lookup(&drops, &why);

	if (count)
		__sync_fetch_and_add(count, 1);
	return DROP;
}

INLINE bool lives(const struct life *life, __u32 generation)
{
	return life && generation >= life->born && (!life->died || generation < life->died);
}

/*
 * Bytes from the IP header on, as netfilter counts them: without what fills up a short frame, and all that the packet stands for. A packet of more than 64
 * KiB says nothing of its length.
 */
INLINE __u32 bytes_of(const struct __sk_buff *skb, const struct packet *packet, __u32 offset)
{
	__u32 header = packet->features.family == 4 ? 0 : IPV6_HEADER;

	return packet->length > header ? packet->length : skb->len - offset;
}

/* A new run of the packet, between these interfaces; `is_read`: it could be read; `offset`: of its IP header, 0 at the gate alone, which is no classifier. */
INLINE struct run *begin(struct __sk_buff *skb, __u32 from, __u32 to, __u32 offset, bool *is_read)
{
	__u32 zero = 0;
	struct run *run = map_lookup(&runs, &zero);
	const struct state *current = map_lookup(&state, &zero);

	/* Callers ask of both at once: a verifier that believes that there may be no element demands that both are written. */
	*is_read = false;
	if (!run || !current)
		return 0;
	*is_read = parse(skb, &run->packet, offset > 0);
	run->generation = current->generation;
	run->flags = current->flags;
	run->failsafes = current->failsafes;
	run->bytes = bytes_of(skb, &run->packet, offset);
	run->count = 0;
	run->next = 0;
	run->interfaces[CALLER] = from;
	run->interfaces[ANSWERER] = to;
	run->has_key = *is_read && key_of(skb, &run->packet, &run->key, offset > 0);
	if (run->packet.is_first_fragment || run->packet.is_later_fragment)
		fragment_key_of(&run->packet, &run->piece);
	return run;
}

/* Of the endpoint of the interface; 0: it has none. */
INLINE const struct stages *stages_at(const struct run *run, __u32 interface)
{
	const struct endpoint *endpoint = map_lookup(&endpoints, &interface);
	const struct stages *found;

	if (!endpoint)
		return 0;
	found = run->generation >= endpoint->since ? &endpoint->after : &endpoint->before;
	return found->kind ? found : 0;
}

/* Of the endpoint of an interface that is no unknown workload's. */
INLINE const struct stages *stages_of(const struct run *run, __u32 interface)
{
	const struct stages *own = stages_at(run, interface);

	return own ? own : stages_at(run, 0);
}

INLINE __u32 stage_of(const struct stages *stages, __u32 kind, __u32 hook, __u32 direction)
{
	return stages && stages->kind == kind ? stages->first[hook * DIRECTIONS + direction] : 0;
}

/* It may deny something. */
INLINE bool decides(__u32 stage)
{
	return stage && !(stage & COUNTS_ALONE);
}

/* One of the stages that were added may. */
INLINE bool any_decides(const struct run *run)
{
	for (__u32 i = 0; i < MOST_STAGES; i++)
		if (i < run->count && decides(run->stages[i]))
			return true;
	return false;
}

/* The stage judges the packet after those before it; 0: there is none. */
INLINE void add(struct run *run, __u32 stage)
{
	if (stage)
		run->stages[run->count++ & (MOST_STAGES - 1)] = stage;
}

INLINE bool has_host(const struct record *record, const struct packet *packet, __u32 side, __u32 generation)
{
	struct member_key key = { .set = record->target, .family = packet->features.family };

	__builtin_memcpy(key.address, &packet->addresses[side], 16);
	if (record->conditions & ON_NAMED_PORT) {
		key.protocol = packet->features.protocol;
		key.port = packet->ports[side];
	}
	return lives(map_lookup(&members, &key), generation);
}

INLINE bool has_net(__u32 set, const struct packet *packet, const void *address)
{
	struct net_key key = { .bits = 192, .set = set, .family = packet->features.family };

	__builtin_memcpy(key.address, address, 16);
	return map_lookup(&nets, &key) != 0;
}

INLINE bool holds(const struct record *record, const struct packet *packet, __u32 generation)
{
	__u32 conditions = record->conditions;
	__u16 port = packet->ports[conditions / PORT_OF_DESTINATION & 1];
	__u32 side = conditions / SET_OF_DESTINATION & 1;

	if ((packet->features.all ^ record->value.all) & record->mask.all)
		return false;
	if (port < record->from || port > record->to)
		return false;
	if (!(conditions & (SET_HAS_HOSTS | SET_HAS_NETS)))
		return true;
	if ((conditions & SET_HAS_HOSTS) && has_host(record, packet, side, generation))
		return true;
	return (conditions & SET_HAS_NETS) && has_net(record->target, packet, &packet->addresses[side]);
}

INLINE void count(const struct run *run, __u32 at)
{
	struct count *count = map_lookup(&counters, &at);

	if (!count)
		return;
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, run->bytes);
}

/* The verdict stands. */
enum { DECIDED = 0 };

INLINE __u32 decide(struct run *run, int verdict)
{
	run->verdict = verdict;
	return DECIDED;
}

/* The next stage, when one has allowed the packet. */
INLINE __u32 allow(struct run *run, bool is_by_rule)
{
	__u32 then;

	run->is_by_rule = is_by_rule;
	if (run->next >= run->count)
		return decide(run, NEXT);
	then = run->stages[run->next++ & (MOST_STAGES - 1)];
	if (then == UNKNOWN)
		return decide(run, drop(DROPPED_UNKNOWN));
	return then == INVALID ? decide(run, drop(DROPPED_INVALID)) : then & ~COUNTS_ALONE;
}

/* The staged stage has been asked. */
INLINE __u32 leave_staged(struct run *run)
{
	__u32 then = run->decides_at;

	run->decides_at = 0;
	return then;
}

INLINE void miss(void)
{
	__u32 zero = 0;
	__u64 *count = map_lookup(&missed, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/* Of denied packets, as many as a second has room for. */
INLINE bool has_room(__u64 now)
{
	__u32 zero = 0;
	struct bucket *bucket = map_lookup(&buckets, &zero);

	if (!bucket)
		return false;
	if (now >> 30 != bucket->second) {
		bucket->second = now >> 30;
		bucket->events = 0;
	}
	return bucket->events++ < MOST_DENIED;
}

/* Never waits: an event for which there is no room is counted. */
INLINE void tell(struct run *run, __u8 kind, __u32 at)
{
	struct event *event = &run->event;
	const struct packet *packet = &run->packet;

	event->time = nanoseconds_since_boot();
	if (kind == EVENT_DENIED && !has_room(event->time))
		return miss();
	event->record = at;
	event->generation = run->generation;
	event->interfaces[CALLER] = run->interfaces[CALLER];
	event->interfaces[ANSWERER] = run->interfaces[ANSWERER];
	event->kind = kind;
	event->family = packet->features.family;
	event->protocol = packet->features.protocol;
	event->tcp_flags = packet->tcp_flags;
	event->ports[SOURCE] = packet->ports[SOURCE];
	event->ports[DESTINATION] = packet->ports[DESTINATION];
	event->icmp_type = packet->features.icmp_type;
	event->icmp_code = packet->features.icmp_code;
	event->shape = packet->features.shape;
	__builtin_memcpy(event->addresses, packet->addresses, sizeof(event->addresses));
	if (ring_output(&events, event, sizeof(*event), 0))
		miss();
}

INLINE __u32 deny(struct run *run, __u32 at)
{
	tell(run, EVENT_DENIED, at);
	return DECIDED;
}

/* Runs one record; the next one, or DECIDED. A function of its own is verified once, whatever calls it. */
OUTLINE __u32 step(__u32 at)
{
	__u32 zero = 0;
	struct run *run = map_lookup(&runs, &zero);
	const struct record *record = map_lookup(&records, &at);
	__u16 further;

	if (!run || !record)
		return DECIDED;
	switch (record->kind) {
	case MATCH:
		further = holds(record, &run->packet, run->generation) ? record->yes : record->no;
		return further ? at + further : run->back;
	case ACTION:
		count(run, at);
		switch (record->detail) {
		case ALLOW:
			return allow(run, true);
		case PASS:
			return run->passed;
		case LOG:
			tell(run, EVENT_LOG, at);
			return record->no ? at + record->no : run->back;
		default:
			return deny(run, at);
		}
	case EMPTY_POLICY:
		return run->back;
	case TIER:
	case PROFILES:
		run->passed = at + record->yes;
		return at + 1;
	case CALL:
		run->back = at + 1;
		return record->target;
	case TIER_END:
		if (record->detail == PASS)
			return at + 1;
		count(run, at);
		return deny(run, at);
	case END:
		count(run, at);
		return record->detail == ALLOW ? allow(run, false) : deny(run, at);
	case STAGED:
		run->has_counted = 1;
		/* An earlier one has used up what they all have. */
		if (run->staged_rounds >= ROUNDS)
			return at + 1;
		run->decides_at = at + 1;
		return record->target;
	case NO_STAGE:
		return allow(run, false);
	case STAGED_ACTION:
		count(run, at);
		if (record->detail == PASS)
			return run->passed;
		if (record->detail == LOG)
			return record->no ? at + record->no : run->back;
		return leave_staged(run);
	case STAGED_TIER_END:
		if (record->detail == PASS)
			return at + 1;
		count(run, at);
		return leave_staged(run);
	case STAGED_END:
		count(run, at);
		return leave_staged(run);
	default:
		return DECIDED;
	}
}

OUTLINE __u32 steps(__u32 at)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < STEPS; i++) {
		at = step(at);
		if (at == DECIDED)
			return DECIDED;
	}
	return at;
}

/* After steps that decided nothing: where the next round begins, or DECIDED if there are no more. */
INLINE __u32 next_round(struct run *run, __u32 at)
{
	if (!run->has_counted) {
		run->rounds++;
		return run->rounds < ROUNDS ? at : decide(run, drop(DROPPED_UNFINISHED));
	}
	run->staged_rounds++;
	if (!run->decides_at)
		run->has_counted = 0;
	else if (run->staged_rounds >= ROUNDS)
		return leave_staged(run);
	return at;
}

OUTLINE __u32 one_round(__u32 at)
{
	__u32 zero = 0;
	struct run *run = map_lookup(&runs, &zero);

	at = steps(at);
	return run && at != DECIDED ? next_round(run, at) : DECIDED;
}

/* Judges the packet by the stages that were added. */
INLINE int judge(struct run *run)
{
	__u32 at = allow(run, false);

	if (at == DECIDED)
		return run->verdict;
	run->verdict = DROP;
	run->decides_at = 0;
	run->has_counted = 0;
	run->rounds = 0;
	run->staged_rounds = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < ALL_ROUNDS; i++) {
		at = one_round(at);
		if (at == DECIDED)
			return run->verdict;
	}
	return drop(DROPPED_UNFINISHED);
}

/* Judges it by one stage; 0: there is none. */
INLINE int judge_by(struct run *run, __u32 stage)
{
	run->count = 0;
	run->next = 0;
	add(run, stage);
	return judge(run);
}

/* The workload of the interface may send from the address: it is its own, or in a source prefix. */
INLINE bool has_address(const struct run *run, __u32 interface, const void *address)
{
	struct address_key key = { .interface = interface, .family = run->packet.features.family };
	const struct stages *own;

	__builtin_memcpy(key.address, address, 16);
	if (lives(map_lookup(&addresses, &key), run->generation))
		return true;
	own = stages_at(run, interface);
	return own && own->sources && has_net(own->sources, &run->packet, address);
}

INLINE bool is_own_source(const struct run *run, __u32 interface)
{
	return has_address(run, interface, &run->packet.addresses[SOURCE]);
}

/* Whether the port (of the side) is a failsafe port for the other end (of the side). */
INLINE bool is_failsafe(const struct run *run, __u8 direction, __u32 port_side, __u32 other_side)
{
	const struct packet *packet = &run->packet;
	struct failsafe_key key = {
		.bits = 224,
		.version = run->failsafes,
		.direction = direction,
		.protocol = packet->features.protocol,
		.port = packet->ports[port_side],
		.family = packet->features.family,
	};

	if (!(packet->features.shape & HAS_PORTS))
		return false;
	__builtin_memcpy(key.address, &packet->addresses[other_side], 16);
	return map_lookup(&failsafes, &key) != 0;
}
