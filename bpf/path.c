/*
 * path: what src/program/path.ts says of workloads, at the two sides of interfaces.
 *
 * What a workload sends is checked when its interface receives it (loopback destination, forged source, neighbor discovery) and, if it is
 * for the node itself, judged there. What is forwarded is judged where it leaves, when services have been translated: first by the egress
 * stage of the workload that it comes from, then by the ingress stage of the one that it goes to.
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
};
/* Of IPv6 extension headers; a packet with more is dropped. */
enum { MOST_HEADERS = 8 };

struct address {
	__u32 words[4];
};

struct packet {
	union features features;
	__u16 ports[2]; /* source, destination */
	struct address addresses[2];
};
enum { SOURCE, DESTINATION };

/* In place of a stage: the workload that the packet goes to is unknown. */
#define UNKNOWN (~0U)

/* A packet on its way through the interpreter. */
struct run {
	struct packet packet;
	__u32 generation;
	__u32 back; /* where the policy was called from */
	__u32 passed; /* where a rule that passes goes */
	__u32 then; /* the next stage; 0: none */
	__u32 drops_for_host;
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
	case UDP:
	case SCTP:
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
	/* Only the first fragment has a transport header. */
	if ((header[6] & 0x1f) || header[7])
		return true;
	return parse_transport(skb, (header[0] & 15) * 4, packet);
}

INLINE bool parse6(const struct __sk_buff *skb, struct packet *packet)
{
	__u8 header[40];
	__u8 extension[4];
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
			return parse_transport(skb, offset, packet);
		}
		if (!load(skb, offset, extension, sizeof(extension)))
			return false;
		if (next == FRAGMENT && (extension[2] || (extension[3] & 0xf8))) {
			packet->features.protocol = extension[0];
			return true;
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
	return skb->protocol == network16(ETH_IPV4) ? parse4(skb, packet) : parse6(skb, packet);
}

/* A new run of the packet; 0: it cannot be read. */
INLINE struct run *begin(const struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct run *run = map_lookup(&runs, &zero);
	const struct state *current = map_lookup(&state, &zero);

	if (!run || !current || !parse(skb, &run->packet))
		return 0;
	run->generation = current->generation;
	run->drops_for_host = 0;
	run->then = 0;
	return run;
}

INLINE struct stages stages_of(__u32 interface, __u32 generation)
{
	const struct endpoint *endpoint = map_lookup(&endpoints, &interface);
	struct stages none = {};

	if (!endpoint)
		return none;
	return generation >= endpoint->since ? endpoint->after : endpoint->before;
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

/* What follows a stage that allowed the packet. */
INLINE __u32 allow(struct run *run)
{
	__u32 then = run->then;

	if (then == UNKNOWN)
		return decide(run, drop(DROPPED_UNKNOWN));
	if (!then)
		return decide(run, run->drops_for_host ? drop(DROPPED_FOR_HOST) : NEXT);
	run->then = 0;
	return then;
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
			return allow(run);
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
		return record->detail == ALLOW ? allow(run) : DECIDED;
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

/* Judges the packet by the stage that begins with the record `first`, and then by `then`: 0: none, UNKNOWN: drop it. */
INLINE int judge(struct run *run, __u32 first, __u32 then)
{
	__u32 at = first;

	run->then = then;
	run->verdict = DROP;
#pragma clang loop unroll(disable)
	for (int i = 0; i < ROUNDS; i++) {
		at = steps(at);
		if (at == DECIDED)
			return run->verdict;
	}
	return drop(DROPPED_UNFINISHED);
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

/* The interface of a workload, or one that has the name of a workload's, has received it. */
SECTION("tc/from_workload")
int from_workload(struct __sk_buff *skb)
{
	struct run *run;
	struct packet *packet;
	struct stages own;
	__u32 zero = 0;
	const struct state *current;

	if (!is_ip(skb))
		return NEXT;
	run = begin(skb);
	if (!run)
		return drop(DROPPED_MALFORMED);
	packet = &run->packet;
	if (is_loopback_destination(packet))
		return drop(DROPPED_LOOPBACK);
	if (is_unspecified_or_link_local(packet)) {
		if (is_discovery(packet, 130, 133) || is_discovery(packet, 135, 136) || is_discovery(packet, 143, 143))
			return NEXT;
		return drop(DROPPED_LINK_LOCAL);
	}
	own = stages_of(skb->ifindex, run->generation);
	if (!own.egress || !is_own_source(run, skb->ifindex))
		return drop(DROPPED_SPOOFED);
	if (!is_for_node(skb, packet))
		return NEXT;
	if (is_discovery(packet, 135, 136))
		return NEXT;
	current = map_lookup(&state, &zero);
	run->drops_for_host = current && current->drops_for_host;
	return judge(run, own.egress, 0);
}

/* A workload's interface, or one that has the name of a workload's, sends it to the workload. */
SECTION("tc/to_workload")
int to_workload(struct __sk_buff *skb)
{
	struct run *run;
	struct stages own, other;

	/* What the node sends to its own pods always passes. */
	if (!is_ip(skb) || !skb->ingress_ifindex)
		return NEXT;
	run = begin(skb);
	if (!run)
		return drop(DROPPED_MALFORMED);
	other = stages_of(skb->ingress_ifindex, run->generation);
	own = stages_of(skb->ifindex, run->generation);
	if (other.egress)
		return judge(run, other.egress, own.ingress ? own.ingress : UNKNOWN);
	return own.ingress ? judge(run, own.ingress, 0) : drop(DROPPED_UNKNOWN);
}

/* Another interface sends it. */
SECTION("tc/to_network")
int to_network(struct __sk_buff *skb)
{
	struct run *run;
	struct stages other;

	if (!is_ip(skb) || !skb->ingress_ifindex)
		return NEXT;
	run = begin(skb);
	if (!run)
		return drop(DROPPED_MALFORMED);
	other = stages_of(skb->ingress_ifindex, run->generation);
	return other.egress ? judge(run, other.egress, 0) : NEXT;
}

char license_text[] SECTION("license") = "GPL";
