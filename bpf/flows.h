/*
 * flows: the table of connections, and what a packet was where it came in.
 */
#pragma once
#include "policy.h"

/*
 * Marks: of a flow that was known where the packet came in; for the gate to look at if it turns out to be for the node itself
 * (src/dataplane/ebpf/gate.ts); and of what the program of a workload's interface has seen (src/dataplane/ebpf/guard.ts). They are not those of
 * the other dataplanes, beside which this one runs while the node changes from one to another. Two together, which the host stack never has
 * without the third, are of what goes past it.
 */
enum { KNOWN = 0x40000, FOR_GATE = 0x80000, SEEN = 0x100000, MARKS = KNOWN | FOR_GATE | SEEN, PAST = KNOWN | SEEN };

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

/* An end of the flow may be a workload's only where the workload still is; `at` 0 with AT_NODE: the node itself. */
INLINE bool is_end_at(const struct connection *connection, __u32 end, __u32 kind, __u32 at)
{
	if (connection->ends[end] != kind)
		return false;
	return kind != AT_WORKLOAD || connection->interfaces[end] == at;
}

INLINE bool has_passed(struct run *run, __u16 is_carried)
{
	const __u64 *passed;

	run->piece.is_carried = is_carried;
	passed = map_lookup(&fragments, &run->piece);
	return passed && nanoseconds_since_boot() - *passed < 30000000000ULL;
}

/* Of a packet that goes on: notes that its later pieces may. */
INLINE int pass(struct run *run, __u16 is_carried)
{
	if (run->packet.is_first_fragment) {
		__u64 now = nanoseconds_since_boot();

		run->piece.is_carried = is_carried;
		map_update(&fragments, &run->piece, &now, 0);
	}
	return NEXT;
}

/* How long packets go past the host stack before one of them has to pass it again: 15 s, in the unit of `opened`. */
enum { WAY_SHIFT = 20, WAY_LIFE = 14305 };

/* What is known of the flow of a packet where it comes in. */
enum knowledge {
	NOTHING,
	CALLED, /* of the caller of a flow that is known and answered: what becomes of it is seen where it leaves */
	CALLED_PLAINLY, /* and nothing has translated the flow: what it was is not needed there */
	WITH_NODE, /* untranslated and for the node itself */
	CARRIED, /* an answer, or an error about a flow: it will be translated back */
	ANSWERS_CUT, /* an answer to a flow that policy denies now */
};

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
INLINE enum knowledge error_arrives(struct __sk_buff *skb, struct run *run, __u64 now)
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

/* The flow that a packet belongs to where it comes in; `flow` 0: none, or not by its tuple. */
struct known {
	struct connection *flow;
	__u32 by; /* the end that has sent it */
	__u64 now;
};

/* `kind`: of the end that sends it. What a workload is found to have left behind at another interface is forgotten. */
INLINE enum knowledge arrives(struct __sk_buff *skb, struct run *run, __u32 kind, struct known *known)
{
	const struct packet *packet = &run->packet;
	__u64 now = nanoseconds_since_boot();
	struct connection *found;

	known->flow = 0;
	known->now = now;
	if (packet->is_later_fragment)
		return has_passed(run, 1) ? CARRIED : NOTHING;
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
		known->flow = is_plain(found, &run->turned) ? found : 0;
		known->by = ANSWERER;
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
	if (found->ends[ANSWERER] == AT_WORKLOAD &&
	    !has_address(run, found->interfaces[ANSWERER], run->key.addresses[DESTINATION])) {
		map_delete(&connections, &run->key);
		return NOTHING;
	}
	if (found->ends[ANSWERER] != AT_NODE) {
		if (!is_plain(found, &run->key))
			return CALLED;
		known->flow = found;
		known->by = CALLER;
		return CALLED_PLAINLY;
	}
	refresh(found, packet, CALLER, now);
	return WITH_NODE;
}

/* Of a packet of TCP or UDP, whether the host stack forwards it like the one before it; what begins, ends or reports is not. */
INLINE bool is_in_the_middle(const struct packet *packet)
{
	if (!packet->is_bare)
		return false;
	if (packet->features.protocol == TCP)
		return !(packet->tcp_flags & (FIN | SYN | RST));
	return packet->features.protocol == UDP;
}

/* Both ends have sent, neither has ended, and policy has not cut it. */
INLINE bool is_open(const struct connection *found)
{
	return (found->flags & (ANSWERED | CALLER_FINISHED | ANSWERER_FINISHED | RESET | CUT)) == ANSWERED;
}

/* The host stack has forwarded a packet that this end of the flow has sent, as it is: for a while others need not ask it. `key`: the flow's. */
INLINE void open_way(const struct run *run, struct connection *found, const struct connection_key *key, __u32 by,
		     __u64 now)
{
	const struct device *from, *to;
	union way way = { .to = run->interfaces[ANSWERER] };

	if (!(run->flags & GOES_PAST) || !run->interfaces[CALLER] || !is_in_the_middle(&run->packet) ||
	    !is_open(found) || !is_plain(found, key))
		return;
	from = map_lookup(&devices, &run->interfaces[CALLER]);
	to = map_lookup(&devices, &run->interfaces[ANSWERER]);
	if (!from || !to)
		return;
	way.most = to->most;
	way.to_peer = to->to_peer;
	if (found->ways[by].all != way.all)
		found->ways[by].all = way.all;
	found->opened[by] = now >> WAY_SHIFT;
}

/* Where a packet leaves: whether it belongs to a flow between these ends that is known and answered, answers one, is an error about one, or
 * a piece of a packet that was let through. */
INLINE bool is_known(struct __sk_buff *skb, struct run *run, __u32 from, __u32 to)
{
	const struct packet *packet = &run->packet;
	__u64 now = nanoseconds_since_boot();
	struct connection *found;

	if (packet->is_later_fragment)
		return has_passed(run, 0);
	if (is_error(packet))
		return error_arrives(skb, run, now) != NOTHING;
	if (!run->has_key || opens(packet))
		return false;
	found = find(&run->key, now);
	if (found && !found->is_alias && is_end_at(found, CALLER, from, run->interfaces[CALLER]) &&
	    is_end_at(found, ANSWERER, to, run->interfaces[ANSWERER])) {
		refresh(found, packet, CALLER, now);
		open_way(run, found, &run->key, CALLER, now);
		return found->flags & ANSWERED;
	}
	/* The same caller reaches another end now: it is judged as a new one. */
	if (found && !found->is_alias && is_end_at(found, CALLER, from, run->interfaces[CALLER]) &&
	    !is_end_at(found, ANSWERER, to, run->interfaces[ANSWERER]))
		map_delete(&connections, &run->key);
	run->turned = run->key;
	turn(&run->turned);
	found = find(&run->turned, now);
	if (!found || (found->is_alias && from != AT_NODE) ||
	    !is_end_at(found, ANSWERER, from, run->interfaces[CALLER]) ||
	    !is_end_at(found, CALLER, to, run->interfaces[ANSWERER]))
		return false;
	refresh(found, packet, ANSWERER, now);
	open_way(run, found, &run->turned, ANSWERER, now);
	return true;
}

/* Of an answer that was known where it came in. */
INLINE void open_way_back(struct run *run, __u32 from, __u32 to)
{
	__u64 now = nanoseconds_since_boot();
	struct connection *found;

	if (!(run->flags & GOES_PAST) || !run->has_key || !is_in_the_middle(&run->packet))
		return;
	run->turned = run->key;
	turn(&run->turned);
	found = find(&run->turned, now);
	if (found && !found->is_alias && is_end_at(found, ANSWERER, from, run->interfaces[CALLER]) &&
	    is_end_at(found, CALLER, to, run->interfaces[ANSWERER]))
		open_way(run, found, &run->turned, ANSWERER, now);
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
		return pass(run, 0);
	found = find(&run->key, fresh->seen);
	if (found && !(opens(packet) && is_closed(found->flags)) &&
	    is_end_at(found, CALLER, fresh->ends[CALLER], fresh->interfaces[CALLER]) &&
	    is_end_at(found, ANSWERER, fresh->ends[ANSWERER], fresh->interfaces[ANSWERER]))
		refresh(found, packet, CALLER, fresh->seen);
	else
		map_update(&connections, &run->key, fresh, 0);
	return pass(run, 0);
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
