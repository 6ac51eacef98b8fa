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
};
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

/*
 * Marks: of a flow that was known where the packet came in; to be dropped if it turns out to be for the node itself (src/dataplane/ebpf/gate.ts); and of
 * what the program of a workload's interface has seen (src/dataplane/ebpf/guard.ts). They are not those of the other dataplanes, beside which this one runs
 * while the node changes from one to another.
 */
enum { KNOWN = 0x40000, NOT_FOR_NODE = 0x80000, SEEN = 0x100000, MARKS = KNOWN | NOT_FOR_NODE | SEEN };
enum { SOURCE, DESTINATION };

/* In place of a stage: the workload that the packet goes to is unknown. */
#define UNKNOWN (~0U)

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
		if (!load(skb, offset + 13, &packet->tcp_flags, 1))
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

/* A new run of the packet; `is_read`: it could be read. */
INLINE struct run *begin(const struct __sk_buff *skb, bool *is_read)
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
	return then == UNKNOWN ? decide(run, drop(DROPPED_UNKNOWN)) : then;
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
			return record->no ? at + record->no : run->back;
		default:
			return DECIDED;
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
		return DECIDED;
	case END:
		count(at);
		return record->detail == ALLOW ? allow(run, false) : DECIDED;
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

/* Nanoseconds for which a flow is known without a packet. */
INLINE __u64 lifetime(__u8 protocol, __u32 flags)
{
	const __u64 second = 1000000000;

	switch (protocol) {
	case TCP:
		return flags & CLOSING ? 30 * second : flags & ANSWERED ? 3600 * second : 20 * second;
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

INLINE struct connection *find(const struct connection_key *key, __u64 now)
{
	struct connection *found = map_lookup(&connections, key);

	return found && now - found->seen < lifetime(key->protocol, found->flags) ? found : 0;
}

/* Written once in a while: many processors may see packets of a flow. */
INLINE void refresh(struct connection *connection, const struct packet *packet, __u32 flags, __u64 now)
{
	if (packet->tcp_flags & (FIN | RST))
		flags |= CLOSING;
	if ((connection->flags & flags) != flags)
		connection->flags |= flags;
	if (now - connection->seen > 1000000000)
		connection->seen = now;
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

INLINE bool is_error(const struct packet *packet)
{
	__u8 type = packet->features.icmp_type;

	if (!(packet->features.shape & HAS_ICMP))
		return false;
	if (packet->features.protocol == ICMP)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/* The flow of the packet that an error is about; false: none that can be read. */
INLINE bool key_of_error(const struct __sk_buff *skb, const struct packet *packet, struct connection_key *key)
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

INLINE void fragment_key_of(const struct packet *packet, struct fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->family = packet->features.family;
	key->protocol = packet->features.protocol;
	key->identification = packet->identification;
	__builtin_memcpy(key->addresses, packet->addresses, sizeof(key->addresses));
}

/* Whether it belongs to a flow that is known and answered, answers one, is an error about one, or a piece of a packet that was let through. */
INLINE bool is_known(const struct __sk_buff *skb, const struct packet *packet)
{
	__u64 now = nanoseconds_since_boot();
	struct connection_key key;
	struct connection *found;

	if (packet->is_later_fragment) {
		struct fragment_key fragment;
		const __u64 *passed;

		fragment_key_of(packet, &fragment);
		passed = map_lookup(&fragments, &fragment);
		return passed && now - *passed < 30000000000ULL;
	}
	if (is_error(packet)) {
		if (!key_of_error(skb, packet, &key))
			return false;
		if (find(&key, now))
			return true;
		turn(&key);
		return find(&key, now) != 0;
	}
	/* What opens a flow is for policy to judge. */
	if ((packet->tcp_flags & (SYN | ACK)) == SYN || !key_of(skb, packet, &key))
		return false;
	found = find(&key, now);
	if (found) {
		refresh(found, packet, 0, now);
		return found->flags & ANSWERED;
	}
	turn(&key);
	found = find(&key, now);
	if (found)
		refresh(found, packet, ANSWERED, now);
	return found != 0;
}

/* Of a packet that goes on: notes that its later pieces may. */
INLINE int pass(const struct packet *packet)
{
	if (packet->is_first_fragment) {
		struct fragment_key key;
		__u64 now = nanoseconds_since_boot();

		fragment_key_of(packet, &key);
		map_update(&fragments, &key, &now, 0);
	}
	return NEXT;
}

/* Of a packet that policy has allowed: its flow is known from now on. */
INLINE int track(const struct __sk_buff *skb, const struct packet *packet)
{
	struct connection fresh = { .seen = nanoseconds_since_boot() };
	struct connection_key key;
	struct connection *found;

	if (is_error(packet) || !key_of(skb, packet, &key))
		return pass(packet);
	found = find(&key, fresh.seen);
	if (found && !(found->flags & CLOSING))
		refresh(found, packet, 0, fresh.seen);
	else
		map_update(&connections, &key, &fresh, 0);
	return pass(packet);
}

INLINE bool is_own_source(const struct run *run, __u32 interface)
{
	struct address_key key = { .interface = interface, .family = run->packet.features.family };

	__builtin_memcpy(key.address, &run->packet.addresses[SOURCE], 16);
	return lives(map_lookup(&addresses, &key), run->generation);
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

/* It may still be translated, and then leave: there it is judged. */
INLINE int keep_from_node(struct __sk_buff *skb)
{
	skb->mark |= NOT_FOR_NODE;
	return NEXT;
}

/* The interface of a workload, or one that has the name of a workload's, has received it. */
SECTION("tc/from_workload")
int from_workload(struct __sk_buff *skb)
{
	struct run *run;
	struct packet *packet;
	__u32 egress;
	bool is_read;

	skb->mark = (skb->mark & ~MARKS) | SEEN;
	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, &is_read);
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
	if (is_known(skb, packet)) {
		skb->mark |= KNOWN;
		return pass(packet);
	}
	if (!is_for_node(skb, packet))
		return keep_from_node(skb);
	if (is_discovery(packet, 135, 136))
		return NEXT;
	if (judge_by(run, egress) == DROP)
		return keep_from_node(skb);
	if (run->flags & DROPS_FOR_HOST) {
		drop(DROPPED_FOR_HOST);
		return keep_from_node(skb);
	}
	return track(skb, packet);
}

/* An interface that is no workload's has received it. */
SECTION("tc/from_network")
int from_network(struct __sk_buff *skb)
{
	const struct stages *host;
	struct run *run;
	__u32 normal;
	bool is_read, is_open;

	skb->mark &= ~MARKS;
	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, &is_read);
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
	if (is_known(skb, &run->packet)) {
		skb->mark |= KNOWN;
		return pass(&run->packet);
	}
	if (!is_open && judge_by(run, stage_of(host, HOST, PRE_DNAT, INGRESS)) == DROP)
		return DROP;
	if (!(run->flags & HAS_HOST_ENDPOINTS))
		return NEXT;
	normal = stage_of(host, HOST, NORMAL, INGRESS);
	if (!is_for_node(skb, &run->packet))
		return normal ? keep_from_node(skb) : NEXT;
	if (!is_open && judge_by(run, normal) == DROP)
		return keep_from_node(skb);
	return track(skb, &run->packet);
}

/* A workload's interface, or one that has the name of a workload's, sends it to the workload. */
SECTION("tc/to_workload")
int to_workload(struct __sk_buff *skb)
{
	const struct stages *other;
	struct run *run;
	__u32 ingress;
	bool is_read, is_known_before;

	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, &is_read);
	/* What the node sends to its own pods always passes. */
	if (!skb->ingress_ifindex)
		return run && is_read ? track(skb, &run->packet) : NEXT;
	if (!run || !is_read)
		return drop(DROPPED_MALFORMED);
	is_known_before = skb->mark & KNOWN;
	skb->mark &= ~MARKS;
	if (is_known_before || is_known(skb, &run->packet))
		return pass(&run->packet);
	other = stages_of(run, skb->ingress_ifindex);
	ingress = stage_of(stages_at(run, skb->ifindex), WORKLOAD, NORMAL, INGRESS);
	add(run, stage_of(other, HOST, FORWARD, INGRESS));
	add(run, stage_of(other, WORKLOAD, NORMAL, EGRESS));
	add(run, ingress ? ingress : UNKNOWN);
	return judge(run) == DROP ? DROP : track(skb, &run->packet);
}

/* Another interface sends it. */
SECTION("tc/to_network")
int to_network(struct __sk_buff *skb)
{
	const struct stages *host, *other;
	struct run *run;
	bool is_read, is_known_before;

	if (!is_ip(skb))
		return NEXT;
	run = begin(skb, &is_read);
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
	if (skb->ingress_ifindex) {
		if (is_known_before || is_known(skb, &run->packet))
			return pass(&run->packet);
		add(run, stage_of(other, HOST, FORWARD, INGRESS));
		add(run, stage_of(other, WORKLOAD, NORMAL, EGRESS));
		add(run, stage_of(host, HOST, FORWARD, EGRESS));
	} else {
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
		if (is_known(skb, &run->packet))
			return pass(&run->packet);
		run->count = 0;
		run->next = 0;
		add(run, is_open ? 0 : stage_of(host, HOST, NORMAL, EGRESS));
	}
	return judge(run) == DROP ? DROP : track(skb, &run->packet);
}

char license_text[] SECTION("license") = "GPL";
