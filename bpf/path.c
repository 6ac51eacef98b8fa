/*
 * path: what src/program/path.ts says, at the two sides of interfaces.
 *
 * What a workload sends is checked when its interface receives it (loopback destination, forged source, neighbor discovery) and, if it is
 * for the node itself, judged there. What is forwarded is judged where it leaves, when services have been translated: first by the egress
 * stage of the workload that it comes from, then by the ingress stage of the one that it goes to. The stages of host endpoints are run where
 * the packet comes in (untracked, pre-DNAT, and normal for the node itself) and where it leaves (forward, and untracked and normal for what the
 * node sends).
 *
 * Policy is asked about the first packet of a flow. Whether a packet belongs to a known one is asked where it comes in, when answers have not
 * been translated back, and again where it leaves, when calls have been translated; a mark carries the first answer to the second place.
 */
#include "kernel.h"
#include "layout.h"

/* So many records are run for a packet at most: the product. A program whose loops are short is verified quickly. */
enum { ROUNDS = 64, STEPS = 1024 };

enum { ETH_IPV4 = 0x0800, ETH_IPV6 = 0x86dd };
enum { AF_INET = 2, AF_INET6 = 10 };
enum {
	HOP_BY_HOP = 0,
	ICMP = 1,
	TCP = 6,
	UDP = 17,
	ROUTING = 43,
	FRAGMENT = 44,
	AUTHENTICATION = 51,
	ICMP6 = 58,
	DESTINATION_OPTIONS = 60,
	SCTP = 132,
	UDPLITE = 136,
};
/* Of IPv6 extension headers; a packet with more is dropped. */
enum { MOST_HEADERS = 8 };

struct address {
	__u32 words[4];
};

struct packet {
	union features features;
	__u16 ports[2]; /* source, destination */
	__u8 tcp_flags;
	bool is_first_fragment;
	bool is_later_fragment;
	__u8 unused;
	struct address addresses[2];
	__u32 identification; /* of a fragment */
	__u32 payload; /* offset of what follows the IP header */
	/* What no translation changes: identification of IPv4, flow label of IPv6; sequence number of TCP. */
	__u32 name;
	__u32 sequence;
};
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

/* Marks: of a flow that was known where the packet came in; for the gate to look at if it turns out to be for the node itself
 * (src/dataplane/ebpf/gate.ts). */
enum { KNOWN = 0x10000, FOR_GATE = 0x20000, MARKS = KNOWN | FOR_GATE };
enum { SOURCE, DESTINATION };
/* The ends of a flow: who began it, and the other. */
enum { CALLER, ANSWERER };

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
	__u32 stages[MOST_STAGES]; /* first records of the stages that judge it, in order */
	__u32 count; /* of stages */
	__u32 next; /* of stages */
	__u32 is_by_rule; /* a rule of the last stage has allowed it */
	int verdict;
	__u32 interfaces[2]; /* that it came from and leaves by; 0: the node itself */
	__u32 has_key;
	struct connection_key key; /* as it is here */
	struct connection_key turned;
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

INLINE bool load(const struct __sk_buff *skb, __u32 offset, void *to, __u32 length)
{
	return load_relative(skb, offset, to, length, FROM_NETWORK_HEADER) == 0;
}

/* False: it has no complete transport header. */
INLINE bool parse_transport(const struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	__u16 ports[2];
	__u8 icmp[2];

	switch (packet->features.protocol) {
	case TCP:
		if (!load(skb, offset + 4, &packet->sequence, 4) || !load(skb, offset + 13, &packet->tcp_flags, 1))
			return false;
		/* fallthrough */
	case UDP:
	case SCTP:
	case UDPLITE:
		if (!load(skb, offset, ports, sizeof(ports)))
			return false;
		packet->features.shape = HAS_PORTS;
		packet->ports[SOURCE] = network16(ports[0]);
		packet->ports[DESTINATION] = network16(ports[1]);
		return true;
	case ICMP:
	case ICMP6:
		if (!load(skb, offset, icmp, sizeof(icmp)))
			return false;
		packet->features.shape = HAS_ICMP;
		packet->features.icmp_type = icmp[0];
		packet->features.icmp_code = icmp[1];
		return true;
	default:
		return true;
	}
}

INLINE bool parse4(const struct __sk_buff *skb, struct packet *packet)
{
	__u8 header[20];

	if (!load(skb, 0, header, sizeof(header)))
		return false;
	packet->features.family = 4;
	packet->features.protocol = header[9];
	__builtin_memcpy(&packet->addresses[SOURCE], header + 12, 4);
	__builtin_memcpy(&packet->addresses[DESTINATION], header + 16, 4);
	packet->payload = (header[0] & 15) * 4;
	packet->identification = header[4] << 8 | header[5];
	packet->name = packet->identification;
	packet->is_later_fragment = (header[6] & 0x1f) || header[7];
	packet->is_first_fragment = !packet->is_later_fragment && (header[6] & 0x20);
	return true;
}

/* Up to its transport header. */
INLINE bool parse6(const struct __sk_buff *skb, struct packet *packet)
{
	__u8 header[40];
	__u8 extension[8];
	__u32 offset = sizeof(header);
	__u8 next;

	if (!load(skb, 0, header, sizeof(header)))
		return false;
	packet->features.family = 6;
	packet->name = (header[1] & 15) << 16 | header[2] << 8 | header[3];
	__builtin_memcpy(&packet->addresses[SOURCE], header + 8, 16);
	__builtin_memcpy(&packet->addresses[DESTINATION], header + 24, 16);
	next = header[6];
#pragma clang loop unroll(full)
	for (int i = 0; i < MOST_HEADERS; i++) {
		if (next != HOP_BY_HOP && next != ROUTING && next != FRAGMENT && next != AUTHENTICATION &&
		    next != DESTINATION_OPTIONS) {
			packet->features.protocol = next;
			packet->payload = offset;
			return true;
		}
		if (!load(skb, offset, extension, sizeof(extension)))
			return false;
		if (next == FRAGMENT) {
			__builtin_memcpy(&packet->identification, extension + 4, 4);
			packet->is_first_fragment = extension[3] & 1;
			if (extension[2] || (extension[3] & 0xf8)) {
				packet->features.protocol = extension[0];
				packet->is_first_fragment = false;
				packet->is_later_fragment = true;
				return true;
			}
		}
		offset += next == FRAGMENT ? 8 :
			  next == AUTHENTICATION ? (extension[1] + 2) * 4 :
						   (extension[1] + 1) * 8;
		next = extension[0];
	}
	return false;
}

INLINE bool is_ip(const struct __sk_buff *skb)
{
	return skb->protocol == network16(ETH_IPV4) || skb->protocol == network16(ETH_IPV6);
}

INLINE bool parse(const struct __sk_buff *skb, struct packet *packet)
{
	__builtin_memset(packet, 0, sizeof(*packet));
	if (!(skb->protocol == network16(ETH_IPV4) ? parse4(skb, packet) : parse6(skb, packet)))
		return false;
	/* Only the first piece has a transport header. */
	return packet->is_later_fragment || parse_transport(skb, packet->payload, packet);
}

INLINE bool is_echo(__u8 type)
{
	return type == 0 || type == 8 || type == 128 || type == 129;
}

/* False: such packets belong to no flow. */
INLINE bool key_of(const struct __sk_buff *skb, const struct packet *packet, struct connection_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->family = packet->features.family;
	key->protocol = packet->features.protocol;
	key->ports[SOURCE] = packet->ports[SOURCE];
	key->ports[DESTINATION] = packet->ports[DESTINATION];
	__builtin_memcpy(key->addresses, packet->addresses, sizeof(key->addresses));
	if (packet->is_later_fragment)
		return false;
	if (key->protocol != ICMP && key->protocol != ICMP6)
		return true;
	if (!is_echo(packet->features.icmp_type) || !load(skb, packet->payload + 4, &key->ports[SOURCE], 2))
		return false;
	key->ports[DESTINATION] = key->ports[SOURCE];
	return true;
}

INLINE void turn(struct connection_key *key)
{
	struct connection_key given = *key;

	key->ports[SOURCE] = given.ports[DESTINATION];
	key->ports[DESTINATION] = given.ports[SOURCE];
	__builtin_memcpy(key->addresses[SOURCE], given.addresses[DESTINATION], 16);
	__builtin_memcpy(key->addresses[DESTINATION], given.addresses[SOURCE], 16);
}

/* A new run of the packet, between these interfaces; `is_read`: it could be read. */
INLINE struct run *begin(const struct __sk_buff *skb, __u32 from, __u32 to, bool *is_read)
{
	__u32 zero = 0;
	struct run *run = map_lookup(&runs, &zero);
	const struct state *current = map_lookup(&state, &zero);

	if (!run || !current)
		return 0;
	*is_read = parse(skb, &run->packet);
	run->generation = current->generation;
	run->flags = current->flags;
	run->failsafes = current->failsafes;
	run->count = 0;
	run->next = 0;
	run->interfaces[CALLER] = from;
	run->interfaces[ANSWERER] = to;
	run->has_key = *is_read && key_of(skb, &run->packet, &run->key);
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

INLINE bool has_net(const struct record *record, const struct packet *packet, __u32 side)
{
	struct net_key key = { .bits = 192, .set = record->target, .family = packet->features.family };

	__builtin_memcpy(key.address, &packet->addresses[side], 16);
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
	return (conditions & SET_HAS_NETS) && has_net(record, packet, side);
}

INLINE void count(__u32 at)
{
	__u64 *packets = map_lookup(&counters, &at);

	if (packets)
		__sync_fetch_and_add(packets, 1);
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
	return then == INVALID ? decide(run, drop(DROPPED_INVALID)) : then;
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
	if (map_push(&events, event, 0))
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
		count(at);
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
		count(at);
		return deny(run, at);
	case END:
		count(at);
		return record->detail == ALLOW ? allow(run, false) : deny(run, at);
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

/* Judges the packet by the stages that were added. */
INLINE int judge(struct run *run)
{
	__u32 at = allow(run, false);

	if (at == DECIDED)
		return run->verdict;
	run->verdict = DROP;
#pragma clang loop unroll(disable)
	for (int i = 0; i < ROUNDS; i++) {
		at = steps(at);
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

INLINE bool is_closed(__u8 flags)
{
	return flags & RESET || (flags & (CALLER_FINISHED | ANSWERER_FINISHED)) == (CALLER_FINISHED | ANSWERER_FINISHED);
}

/* Nanoseconds for which a flow is known without a packet. */
INLINE __u64 lifetime(__u8 protocol, __u8 flags)
{
	const __u64 second = 1000000000;

	if (flags & CUT)
		return 5 * second;
	switch (protocol) {
	case TCP:
		if (is_closed(flags))
			return 30 * second;
		return flags & ANSWERED ? 432000 * second : 20 * second;
	case UDP:
	case UDPLITE:
		return 60 * second;
	case ICMP:
	case ICMP6:
		return 5 * second;
	default:
		return 600 * second;
	}
}

INLINE struct connection *find_also_cut(const struct connection_key *key, __u64 now)
{
	struct connection *found = map_lookup(&connections, key);

	return found && now - found->seen < lifetime(key->protocol, found->flags) ? found : 0;
}

INLINE struct connection *find(const struct connection_key *key, __u64 now)
{
	struct connection *found = find_also_cut(key, now);

	return found && !(found->flags & CUT) ? found : 0;
}

/* A packet of its flow, of the caller or the answerer. Written once in a while: many processors may see packets of a flow. */
INLINE void refresh(struct connection *connection, const struct packet *packet, __u32 by, __u64 now)
{
	__u8 flags = by == ANSWERER ? ANSWERED : 0;

	if (packet->tcp_flags & FIN)
		flags |= by == ANSWERER ? ANSWERER_FINISHED : CALLER_FINISHED;
	if (packet->tcp_flags & RST)
		flags |= RESET;
	if ((connection->flags & flags) != flags)
		connection->flags |= flags;
	if (now - connection->seen > 1000000000)
		connection->seen = now;
}

/* It opens a connection of TCP: for policy to judge, even where a flow is known. */
INLINE bool opens(const struct packet *packet)
{
	return (packet->tcp_flags & (SYN | ACK | RST | FIN)) == SYN;
}

/* A segment of TCP that begins nothing. */
INLINE bool is_middle(const struct packet *packet)
{
	return packet->features.protocol == TCP && !packet->is_later_fragment && !opens(packet);
}

INLINE bool is_error(const struct packet *packet)
{
	__u8 type = packet->features.icmp_type;

	if (!(packet->features.shape & HAS_ICMP))
		return false;
	if (packet->features.protocol == ICMP)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

INLINE bool is_same_address(const __u8 *a, const struct address *b)
{
	struct address copy;

	__builtin_memcpy(&copy, a, 16);
	return !((copy.words[0] ^ b->words[0]) | (copy.words[1] ^ b->words[1]) | (copy.words[2] ^ b->words[2]) |
		 (copy.words[3] ^ b->words[3]));
}

/* The flow of the packet that an error quotes; false: none that can be read. */
INLINE bool key_of_quoted(const struct __sk_buff *skb, const struct packet *packet, struct connection_key *key)
{
	__u32 offset = packet->payload + 8;
	__u8 header[40];
	__u16 ports[2];

	__builtin_memset(key, 0, sizeof(*key));
	key->family = packet->features.family;
	if (key->family == 4) {
		if (!load(skb, offset, header, 20))
			return false;
		key->protocol = header[9];
		__builtin_memcpy(key->addresses[SOURCE], header + 12, 4);
		__builtin_memcpy(key->addresses[DESTINATION], header + 16, 4);
		offset += (header[0] & 15) * 4;
	} else {
		if (!load(skb, offset, header, 40))
			return false;
		key->protocol = header[6];
		__builtin_memcpy(key->addresses[SOURCE], header + 8, 16);
		__builtin_memcpy(key->addresses[DESTINATION], header + 24, 16);
		offset += 40;
	}
	switch (key->protocol) {
	case TCP:
	case UDP:
	case SCTP:
	case UDPLITE:
		if (!load(skb, offset, ports, sizeof(ports)))
			return false;
		key->ports[SOURCE] = network16(ports[SOURCE]);
		key->ports[DESTINATION] = network16(ports[DESTINATION]);
		return true;
	case ICMP:
	case ICMP6:
		if (!load(skb, offset + 4, ports, 2))
			return false;
		key->ports[SOURCE] = ports[0];
		key->ports[DESTINATION] = ports[0];
		return true;
	default:
		return true;
	}
}

/* The same, of an error that goes to the packet's sender. */
INLINE bool key_of_error(const struct __sk_buff *skb, const struct packet *packet, struct connection_key *key)
{
	return key_of_quoted(skb, packet, key) && is_same_address(key->addresses[SOURCE], &packet->addresses[DESTINATION]);
}

INLINE void fragment_key_of(const struct packet *packet, struct fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->family = packet->features.family;
	key->protocol = packet->features.protocol;
	key->identification = packet->identification;
	__builtin_memcpy(key->addresses, packet->addresses, sizeof(key->addresses));
}

/* An end of the flow may be a workload's only where the workload still is; `at` 0 with AT_NODE: the node itself. */
INLINE bool is_end_at(const struct connection *connection, __u32 end, __u32 kind, __u32 at)
{
	if (connection->ends[end] != kind)
		return false;
	return kind != AT_WORKLOAD || connection->interfaces[end] == at;
}

INLINE bool has_passed(const struct packet *packet, __u16 is_carried)
{
	struct fragment_key fragment;
	const __u64 *passed;

	fragment_key_of(packet, &fragment);
	fragment.is_carried = is_carried;
	passed = map_lookup(&fragments, &fragment);
	return passed && nanoseconds_since_boot() - *passed < 30000000000ULL;
}

/* Of a packet that goes on: notes that its later pieces may. */
INLINE int pass(const struct packet *packet, __u16 is_carried)
{
	if (packet->is_first_fragment) {
		struct fragment_key key;
		__u64 now = nanoseconds_since_boot();

		fragment_key_of(packet, &key);
		key.is_carried = is_carried;
		map_update(&fragments, &key, &now, 0);
	}
	return NEXT;
}

/* What is known of the flow of a packet where it comes in. */
enum knowledge {
	NOTHING,
	CALLED, /* of the caller of a flow that is known and answered: what becomes of it is seen where it leaves */
	CALLED_PLAINLY, /* and nothing has translated the flow: what it was is not needed there */
	WITH_NODE, /* untranslated and for the node itself */
	CARRIED, /* an answer, or an error about a flow: it will be translated back */
	ANSWERS_CUT, /* an answer to a flow that policy denies now */
};

INLINE bool has_address(const struct run *run, __u32 interface, const void *address)
{
	struct address_key key = { .interface = interface, .family = run->packet.features.family };

	__builtin_memcpy(key.address, address, 16);
	return lives(map_lookup(&addresses, &key), run->generation);
}

/* The workload that gets it must still be where the flow began. */
INLINE enum knowledge knowledge_of(const struct run *run, const struct connection *found, __u32 receiver,
				   const void *address)
{
	if (found->ends[receiver] == AT_NODE)
		return WITH_NODE;
	if (found->ends[receiver] == AT_WORKLOAD && !has_address(run, found->interfaces[receiver], address))
		return NOTHING;
	return CARRIED;
}

/* The error is about a packet of the flow, whose sender it goes to. */
INLINE enum knowledge error_arrives(const struct __sk_buff *skb, struct run *run, __u64 now)
{
	const struct connection *found;

	if (!key_of_error(skb, &run->packet, &run->turned))
		return NOTHING;
	found = find(&run->turned, now);
	if (found)
		return knowledge_of(run, found, CALLER, found->addresses[SOURCE]);
	turn(&run->turned);
	found = find(&run->turned, now);
	return found ? knowledge_of(run, found, ANSWERER, run->turned.addresses[DESTINATION]) : NOTHING;
}

/* Nothing has translated it. */
INLINE bool is_plain(const struct connection *found, const struct connection_key *key)
{
	const struct address *source = (const void *)key->addresses[SOURCE];
	const struct address *destination = (const void *)key->addresses[DESTINATION];

	return found->ports[SOURCE] == key->ports[SOURCE] && found->ports[DESTINATION] == key->ports[DESTINATION] &&
	       is_same_address(found->addresses[SOURCE], source) &&
	       is_same_address(found->addresses[DESTINATION], destination);
}

/* `kind`: of the end that sends it. What a workload is found to have left behind at another interface is forgotten. */
INLINE enum knowledge arrives(const struct __sk_buff *skb, struct run *run, __u32 kind)
{
	const struct packet *packet = &run->packet;
	__u64 now = nanoseconds_since_boot();
	struct connection *found;

	if (packet->is_later_fragment)
		return has_passed(packet, 1) ? CARRIED : NOTHING;
	if (is_error(packet))
		return error_arrives(skb, run, now);
	if (!run->has_key || opens(packet))
		return NOTHING;
	run->turned = run->key;
	turn(&run->turned);
	found = find_also_cut(&run->turned, now);
	if (found && !found->is_alias && is_end_at(found, ANSWERER, kind, skb->ifindex)) {
		if (found->flags & CUT)
			return ANSWERS_CUT;
		refresh(found, packet, ANSWERER, now);
		return knowledge_of(run, found, CALLER, found->addresses[SOURCE]);
	}
	if (found && kind == AT_WORKLOAD)
		map_delete(&connections, &run->turned);
	found = find(&run->key, now);
	if (!found)
		return NOTHING;
	if (!is_end_at(found, CALLER, kind, skb->ifindex)) {
		if (kind == AT_WORKLOAD)
			map_delete(&connections, &run->key);
		return NOTHING;
	}
	if (!(found->flags & ANSWERED))
		return NOTHING;
	if (found->is_alias)
		return CALLED;
	if (found->ends[ANSWERER] != AT_NODE)
		return is_plain(found, &run->key) ? CALLED_PLAINLY : CALLED;
	refresh(found, packet, CALLER, now);
	return WITH_NODE;
}

/* Where a packet leaves: whether it belongs to a flow between these ends that is known and answered, answers one, is an error about one, or
 * a piece of a packet that was let through. */
INLINE bool is_known(const struct __sk_buff *skb, struct run *run, __u32 from, __u32 to)
{
	const struct packet *packet = &run->packet;
	__u64 now = nanoseconds_since_boot();
	struct connection *found;

	if (packet->is_later_fragment)
		return has_passed(packet, 0);
	if (is_error(packet))
		return error_arrives(skb, run, now) != NOTHING;
	if (!run->has_key || opens(packet))
		return false;
	found = find(&run->key, now);
	if (found && !found->is_alias && is_end_at(found, CALLER, from, run->interfaces[CALLER]) &&
	    is_end_at(found, ANSWERER, to, run->interfaces[ANSWERER])) {
		refresh(found, packet, CALLER, now);
		return found->flags & ANSWERED;
	}
	run->turned = run->key;
	turn(&run->turned);
	found = find(&run->turned, now);
	if (!found || (found->is_alias && from != AT_NODE) ||
	    !is_end_at(found, ANSWERER, from, run->interfaces[CALLER]) ||
	    !is_end_at(found, CALLER, to, run->interfaces[ANSWERER]))
		return false;
	refresh(found, packet, ANSWERER, now);
	return true;
}

/* Of a packet that the node sends: it answers a flow that policy denies now. */
INLINE bool answers_cut(struct run *run)
{
	const struct connection *found;

	if (!run->has_key || opens(&run->packet) || is_error(&run->packet))
		return false;
	run->turned = run->key;
	turn(&run->turned);
	found = find_also_cut(&run->turned, nanoseconds_since_boot());
	return found && found->flags & CUT;
}

/* A flow that begins with this packet, whose original addresses are known. */
INLINE void prepare(struct run *run, __u32 from, __u32 to)
{
	struct connection *fresh = &run->fresh;
	const struct packet *packet = &run->packet;

	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->seen = nanoseconds_since_boot();
	fresh->ends[CALLER] = from;
	fresh->ends[ANSWERER] = to;
	fresh->interfaces[CALLER] = run->interfaces[CALLER];
	fresh->interfaces[ANSWERER] = run->interfaces[ANSWERER];
	fresh->ports[SOURCE] = packet->ports[SOURCE];
	fresh->ports[DESTINATION] = packet->ports[DESTINATION];
	fresh->icmp_type = packet->features.icmp_type;
	fresh->icmp_code = packet->features.icmp_code;
	__builtin_memcpy(fresh->addresses, packet->addresses, sizeof(fresh->addresses));
}

/* Of a packet that policy has allowed: its flow is known from now on. */
INLINE int track(struct run *run)
{
	const struct packet *packet = &run->packet;
	const struct connection *fresh = &run->fresh;
	struct connection *found;

	if (is_error(packet) || !run->has_key || is_middle(packet))
		return pass(packet, 0);
	found = find(&run->key, fresh->seen);
	if (found && !(opens(packet) && is_closed(found->flags)) &&
	    is_end_at(found, CALLER, fresh->ends[CALLER], fresh->interfaces[CALLER]) &&
	    is_end_at(found, ANSWERER, fresh->ends[ANSWERER], fresh->interfaces[ANSWERER]))
		refresh(found, packet, CALLER, fresh->seen);
	else
		map_update(&connections, &run->key, fresh, 0);
	return pass(packet, 0);
}

/* Notes the packet as it comes in, for the place where it leaves. */
INLINE int note_origin(struct __sk_buff *skb, const struct run *run)
{
	const struct packet *packet = &run->packet;
	__u32 token = random32() % 0xffff + 1;
	__u32 at = token & (ORIGINS - 1);
	struct origin *origin = map_lookup(&origins, &at);

	if (!origin)
		return NEXT;
	origin->token = 0;
	origin->seen = nanoseconds_since_boot();
	origin->family = packet->features.family;
	origin->protocol = packet->features.protocol;
	origin->interface = skb->ifindex;
	origin->name = packet->name;
	origin->sequence = packet->sequence;
	origin->ports[SOURCE] = packet->ports[SOURCE];
	origin->ports[DESTINATION] = packet->ports[DESTINATION];
	__builtin_memcpy(origin->addresses, packet->addresses, sizeof(origin->addresses));
	origin->token = token;
	skb->tc_index = token;
	return NEXT;
}

/* The packet as it came in; 0: that is not known. */
INLINE const struct origin *origin_of(const struct __sk_buff *skb, const struct packet *packet)
{
	__u32 token = skb->tc_index;
	__u32 at = token & (ORIGINS - 1);
	const struct origin *origin = map_lookup(&origins, &at);

	if (!origin || !token || origin->token != token || origin->interface != skb->ingress_ifindex)
		return 0;
	if (origin->family != packet->features.family || origin->protocol != packet->features.protocol ||
	    origin->name != packet->name || origin->sequence != packet->sequence)
		return 0;
	return nanoseconds_since_boot() - origin->seen < 10000000000ULL ? origin : 0;
}

/* Policy sees the source as it was sent, and the destination as it is here. */
INLINE bool restore(const struct __sk_buff *skb, struct run *run, __u32 from, __u32 to)
{
	const struct origin *origin = origin_of(skb, &run->packet);

	if (!origin)
		return false;
	run->packet.ports[SOURCE] = origin->ports[SOURCE];
	__builtin_memcpy(&run->packet.addresses[SOURCE], origin->addresses[SOURCE], 16);
	prepare(run, from, to);
	run->fresh.ports[DESTINATION] = origin->ports[DESTINATION];
	__builtin_memcpy(run->fresh.addresses[DESTINATION], origin->addresses[DESTINATION], 16);
	return true;
}

INLINE bool is_own_source(const struct run *run, __u32 interface)
{
	return has_address(run, interface, &run->packet.addresses[SOURCE]);
}

INLINE bool is_discovery(const struct packet *packet, __u8 from, __u8 to)
{
	return packet->features.protocol == ICMP6 && (packet->features.shape & HAS_ICMP) && packet->features.icmp_type >= from && packet->features.icmp_type <= to;
}

INLINE bool is_unspecified_or_link_local(const struct packet *packet)
{
	const struct address *source = &packet->addresses[SOURCE];
	const __u8 *bytes = (const __u8 *)source;

	if (packet->features.family != 6)
		return false;
	if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80)
		return true;
	return !(source->words[0] | source->words[1] | source->words[2] | source->words[3]);
}

INLINE bool is_loopback_destination(const struct packet *packet)
{
	const struct address *destination = &packet->addresses[DESTINATION];
	const __u8 *bytes = (const __u8 *)destination;

	if (packet->features.family == 4)
		return bytes[0] == 127;
	return !(destination->words[0] | destination->words[1] | destination->words[2]) &&
	       destination->words[3] == __builtin_bswap32(1);
}

INLINE bool is_for_node(struct __sk_buff *skb, const struct packet *packet)
{
	struct fib_query query = {
		.family = packet->features.family == 4 ? AF_INET : AF_INET6,
		.protocol = packet->features.protocol,
		.interface = skb->ifindex,
	};
	long result;

	__builtin_memcpy(query.source, &packet->addresses[SOURCE], 16);
	__builtin_memcpy(query.destination, &packet->addresses[DESTINATION], 16);
	result = fib_lookup(skb, &query, sizeof(query), 0);
	return result == FIB_NOT_FORWARDED || result == FIB_NO_FORWARDING;
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

/* It may still be translated: where it leaves, or turns out to be for the node itself, it is judged. */
INLINE int leave_to_gate(struct __sk_buff *skb, const struct run *run)
{
	skb->mark |= FOR_GATE;
	return note_origin(skb, run);
}

INLINE bool gate_judges(void)
{
	__u32 zero = 0;
	const __u32 *judges = map_lookup(&gate, &zero);

	return judges && *judges;
}

/* Of a packet whose flow is known where it comes in. */
INLINE int goes_on(struct __sk_buff *skb, const struct run *run, enum knowledge knowledge)
{
	if (knowledge == ANSWERS_CUT)
		return drop(DROPPED_CUT);
	if (knowledge == CALLED_PLAINLY) {
		skb->mark |= FOR_GATE;
		return NEXT;
	}
	/* Where nothing translates it back, it is not for the node. */
	if (knowledge == CARRIED)
		skb->mark |= KNOWN | FOR_GATE;
	return pass(&run->packet, knowledge == CARRIED);
}

/* The interface of a workload, or one that has the name of a workload's, has received it. */
SECTION("tc/from_workload")
int from_workload(struct __sk_buff *skb)
{
	enum knowledge knowledge;
	struct run *run;
	struct packet *packet;
	__u32 egress;
	bool is_read;

	skb->mark &= ~MARKS;
	skb->tc_index = 0;
	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, skb->ifindex, 0, &is_read);
	if (!run || !is_read)
		return drop(DROPPED_MALFORMED);
	packet = &run->packet;
	if (is_loopback_destination(packet))
		return drop(DROPPED_LOOPBACK);
	if (is_unspecified_or_link_local(packet)) {
		if (is_discovery(packet, 130, 133) || is_discovery(packet, 135, 136) || is_discovery(packet, 143, 143))
			return NEXT;
		return drop(DROPPED_LINK_LOCAL);
	}
	egress = stage_of(stages_at(run, skb->ifindex), WORKLOAD, NORMAL, EGRESS);
	if (!egress || !is_own_source(run, skb->ifindex))
		return drop(DROPPED_SPOOFED);
	knowledge = arrives(skb, run, AT_WORKLOAD);
	if (knowledge > CALLED)
		return goes_on(skb, run, knowledge);
	if (gate_judges() || !is_for_node(skb, packet))
		return leave_to_gate(skb, run);
	if (is_discovery(packet, 135, 136))
		return NEXT;
	if (is_middle(packet)) {
		drop(DROPPED_INVALID);
		return leave_to_gate(skb, run);
	}
	if (judge_by(run, egress) == DROP)
		return leave_to_gate(skb, run);
	if (run->flags & DROPS_FOR_HOST) {
		drop(DROPPED_FOR_HOST);
		return leave_to_gate(skb, run);
	}
	note_origin(skb, run);
	prepare(run, AT_WORKLOAD, AT_NODE);
	return track(run);
}

/* An interface that is no workload's has received it. */
SECTION("tc/from_network")
int from_network(struct __sk_buff *skb)
{
	enum knowledge knowledge;
	const struct stages *host;
	struct run *run;
	__u32 normal;
	bool is_read, is_open;

	skb->mark &= ~MARKS;
	skb->tc_index = 0;
	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, skb->ifindex, 0, &is_read);
	if (!run)
		return NEXT;
	host = stages_of(run, skb->ifindex);
	if (!is_read)
		return host ? drop(DROPPED_MALFORMED) : NEXT;
	is_open = is_failsafe(run, INGRESS, DESTINATION, SOURCE);
	if (!is_open && !is_failsafe(run, EGRESS, SOURCE, SOURCE)) {
		__u32 untracked = stage_of(host, HOST, UNTRACKED, INGRESS);

		if (untracked) {
			if (judge_by(run, untracked) == DROP)
				return DROP;
			if (run->is_by_rule) {
				skb->mark |= KNOWN;
				return NEXT;
			}
		}
	}
	knowledge = arrives(skb, run, OUTSIDE);
	if (knowledge > CALLED)
		return goes_on(skb, run, knowledge);
	if (!is_open && knowledge != CALLED && judge_by(run, stage_of(host, HOST, PRE_DNAT, INGRESS)) == DROP)
		return DROP;
	if (!(run->flags & HAS_HOST_ENDPOINTS))
		return note_origin(skb, run);
	normal = stage_of(host, HOST, NORMAL, INGRESS);
	if (normal && gate_judges())
		return leave_to_gate(skb, run);
	if (!is_for_node(skb, &run->packet))
		return normal ? leave_to_gate(skb, run) : note_origin(skb, run);
	if (!is_open && judge_by(run, normal) == DROP)
		return leave_to_gate(skb, run);
	note_origin(skb, run);
	prepare(run, OUTSIDE, AT_NODE);
	return track(run);
}

/* The host endpoint's or the workload's stage for what is for the node itself has allowed it. */
INLINE bool is_let_in(struct run *run, __u32 kind, __u32 interface)
{
	__u32 stage;

	if (kind == OUTSIDE) {
		stage = stage_of(stages_of(run, interface), HOST, NORMAL, INGRESS);
		return is_failsafe(run, INGRESS, DESTINATION, SOURCE) || judge_by(run, stage) != DROP;
	}
	if (is_middle(&run->packet)) {
		drop(DROPPED_INVALID);
		return false;
	}
	stage = stage_of(stages_at(run, interface), WORKLOAD, NORMAL, EGRESS);
	if (!stage || judge_by(run, stage) == DROP)
		return false;
	if (run->flags & DROPS_FOR_HOST)
		drop(DROPPED_FOR_HOST);
	return !(run->flags & DROPS_FOR_HOST);
}

/*
 * The gate asks it about a packet for the node itself, as services have translated it; other than 0: it is dropped. The node answers from the
 * address that was called, so the tuple before translation is noted as well.
 */
SECTION("socket/to_node")
int to_node(struct __sk_buff *skb)
{
	const struct stages *own;
	struct connection *found, *alias;
	struct run *run;
	bool is_read, is_translated;
	__u32 kind;

	run = begin(skb, skb->ingress_ifindex, 0, &is_read);
	if (!run || !is_read)
		return 1;
	if (run->packet.is_later_fragment)
		return !has_passed(&run->packet, 0);
	own = stages_at(run, skb->ingress_ifindex);
	kind = own && own->kind == WORKLOAD ? AT_WORKLOAD : OUTSIDE;
	if (kind == AT_WORKLOAD && is_discovery(&run->packet, 135, 136))
		return 0;
	if (!restore(skb, run, kind, AT_NODE)) {
		drop(DROPPED_ORIGIN);
		return 1;
	}
	run->turned = run->key;
	run->turned.ports[DESTINATION] = run->fresh.ports[DESTINATION];
	__builtin_memcpy(run->turned.addresses[DESTINATION], run->fresh.addresses[DESTINATION], 16);
	is_translated = run->fresh.ports[DESTINATION] != run->packet.ports[DESTINATION] ||
			!is_same_address(run->fresh.addresses[DESTINATION], &run->packet.addresses[DESTINATION]);
	if (run->has_key && !opens(&run->packet)) {
		found = find(&run->key, run->fresh.seen);
		alias = is_translated ? find(&run->turned, run->fresh.seen) : 0;
		if (found && is_end_at(found, CALLER, kind, skb->ingress_ifindex) && found->ends[ANSWERER] == AT_NODE) {
			if (alias && alias->is_alias) {
				found->flags |= alias->flags;
				refresh(alias, &run->packet, CALLER, run->fresh.seen);
			}
			refresh(found, &run->packet, CALLER, run->fresh.seen);
			if (found->flags & ANSWERED)
				return 0;
		}
	}
	if (!is_let_in(run, kind, skb->ingress_ifindex))
		return 1;
	track(run);
	if (is_translated && run->has_key && !is_error(&run->packet)) {
		run->fresh.is_alias = 1;
		map_update(&connections, &run->turned, &run->fresh, 0);
	}
	return 0;
}

/*
 * Of a packet of a flow that is known and answered: its tuple before translation is noted, where the interface that it came from has a stage
 * that looks at that.
 */
INLINE int go_known(const struct __sk_buff *skb, struct run *run, const struct stages *other)
{
	const struct origin *origin;
	const struct connection *alias;

	if (!run->has_key || !stage_of(other, HOST, PRE_DNAT, INGRESS))
		return pass(&run->packet, 0);
	origin = origin_of(skb, &run->packet);
	if (!origin)
		return pass(&run->packet, 0);
	run->turned = run->key;
	run->turned.ports[SOURCE] = origin->ports[SOURCE];
	run->turned.ports[DESTINATION] = origin->ports[DESTINATION];
	__builtin_memcpy(run->turned.addresses, origin->addresses, sizeof(origin->addresses));
	alias = map_lookup(&connections, &run->turned);
	if (!alias || (alias->is_alias && nanoseconds_since_boot() - alias->seen > 1000000000)) {
		prepare(run, OUTSIDE, OUTSIDE);
		run->fresh.is_alias = 1;
		run->fresh.flags = ANSWERED;
		map_update(&connections, &run->turned, &run->fresh, 0);
	}
	return pass(&run->packet, 0);
}

/* A workload's interface, or one that has the name of a workload's, sends it to the workload. */
SECTION("tc/to_workload")
int to_workload(struct __sk_buff *skb)
{
	const struct stages *other;
	struct run *run;
	__u32 ingress, from;
	bool is_read, is_known_before;

	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, skb->ingress_ifindex, skb->ifindex, &is_read);
	/* What the node sends to its own pods always passes. */
	if (!skb->ingress_ifindex) {
		if (!run || !is_read)
			return NEXT;
		if (is_known(skb, run, AT_NODE, AT_WORKLOAD))
			return pass(&run->packet, 0);
		if (answers_cut(run))
			return NEXT;
		prepare(run, AT_NODE, AT_WORKLOAD);
		return track(run);
	}
	if (!run || !is_read)
		return drop(DROPPED_MALFORMED);
	is_known_before = skb->mark & KNOWN;
	skb->mark &= ~MARKS;
	other = stages_of(run, skb->ingress_ifindex);
	from = other && other->kind == WORKLOAD ? AT_WORKLOAD : OUTSIDE;
	if (is_known_before)
		return pass(&run->packet, 0);
	if (is_known(skb, run, from, AT_WORKLOAD))
		return go_known(skb, run, other);
	if (!restore(skb, run, from, AT_WORKLOAD))
		return drop(DROPPED_ORIGIN);
	if (from == AT_WORKLOAD && is_middle(&run->packet))
		return drop(DROPPED_INVALID);
	ingress = stage_of(stages_at(run, skb->ifindex), WORKLOAD, NORMAL, INGRESS);
	add(run, stage_of(other, HOST, FORWARD, INGRESS));
	add(run, stage_of(other, WORKLOAD, NORMAL, EGRESS));
	add(run, is_middle(&run->packet) ? INVALID : ingress ? ingress : UNKNOWN);
	return judge(run) == DROP ? DROP : track(run);
}

/* Another interface sends what was forwarded. */
INLINE int forwarded(struct __sk_buff *skb, struct run *run, const struct stages *host, const struct stages *other)
{
	__u32 from = other && other->kind == WORKLOAD ? AT_WORKLOAD : OUTSIDE;

	if (is_known(skb, run, from, OUTSIDE))
		return go_known(skb, run, other);
	add(run, stage_of(other, HOST, FORWARD, INGRESS));
	add(run, stage_of(other, WORKLOAD, NORMAL, EGRESS));
	add(run, stage_of(host, HOST, FORWARD, EGRESS));
	if (!run->count)
		return NEXT;
	if (!restore(skb, run, from, OUTSIDE))
		return drop(DROPPED_ORIGIN);
	if (from == AT_WORKLOAD && is_middle(&run->packet))
		return drop(DROPPED_INVALID);
	return judge(run) == DROP ? DROP : track(run);
}

/* Another interface sends what a process of the node has sent. */
INLINE int sent_by_node(const struct __sk_buff *skb, struct run *run, const struct stages *host)
{
	bool is_open = is_failsafe(run, EGRESS, DESTINATION, DESTINATION);

	if (!is_open && !is_failsafe(run, INGRESS, SOURCE, DESTINATION)) {
		__u32 untracked = stage_of(host, HOST, UNTRACKED, EGRESS);

		if (untracked) {
			if (judge_by(run, untracked) == DROP)
				return DROP;
			if (run->is_by_rule)
				return NEXT;
		}
	}
	if (is_known(skb, run, AT_NODE, OUTSIDE))
		return pass(&run->packet, 0);
	if (answers_cut(run))
		return drop(DROPPED_CUT);
	prepare(run, AT_NODE, OUTSIDE);
	return judge_by(run, is_open ? 0 : stage_of(host, HOST, NORMAL, EGRESS)) == DROP ? DROP : track(run);
}

SECTION("tc/to_network")
int to_network(struct __sk_buff *skb)
{
	const struct stages *host, *other;
	struct run *run;
	bool is_read, is_known_before;

	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, skb->ingress_ifindex, skb->ifindex, &is_read);
	if (!run)
		return NEXT;
	host = stages_of(run, skb->ifindex);
	other = skb->ingress_ifindex ? stages_of(run, skb->ingress_ifindex) : 0;
	if (!other && !(run->flags & HAS_HOST_ENDPOINTS))
		return NEXT;
	if (!is_read)
		return host || other ? drop(DROPPED_MALFORMED) : NEXT;
	is_known_before = skb->mark & KNOWN;
	skb->mark &= ~MARKS;
	if (!skb->ingress_ifindex)
		return sent_by_node(skb, run, host);
	return is_known_before ? pass(&run->packet, 0) : forwarded(skb, run, host, other);
}

char license_text[] SECTION("license") = "GPL";
