/*
 * past: the way past the host stack, for packets of flows in their middle.
 *
 * It is open where the host stack has forwarded a packet of the flow, sent by the same end, as it came, within the last 15 seconds: then what the
 * stack has decided (filters of others, no translation, no encryption, the interface) is taken to hold, and the kernel's own entry of the
 * connection does not expire. What the stack would have to answer, and all that is not sure, goes to the stack.
 */
#pragma once
#include "flows.h"

enum { ETHERNET_HEADER = 14 };

/* Bytes of the packet, or of the largest that it stands for; 0: not known. */
INLINE __u32 size_of(const struct __sk_buff *skb, const struct packet *packet)
{
	__u32 length = skb->len - ETHERNET_HEADER;

	/* What one of UDP stands for may be packets in a tunnel. */
	if (!packet->length || packet->length > length || (skb->gso_size && packet->features.protocol != TCP))
		return 0;
	return skb->gso_size ? packet->headers + skb->gso_size : length;
}

/* The route of the packet leads to that interface, and the next neighbor's address is known: into the query. */
INLINE bool is_route(struct __sk_buff *skb, const struct packet *packet, __u32 to, __u32 size, struct fib_query *query)
{
	__builtin_memset(query, 0, sizeof(*query));
	query->family = packet->features.family == 4 ? AF_INET : AF_INET6;
	query->protocol = packet->features.protocol;
	query->source_port = network16(packet->ports[SOURCE]);
	query->destination_port = network16(packet->ports[DESTINATION]);
	query->length = size;
	query->interface = skb->ifindex;
	query->flow = packet->class;
	__builtin_memcpy(query->source, &packet->addresses[SOURCE], 16);
	__builtin_memcpy(query->destination, &packet->addresses[DESTINATION], 16);
	return fib_lookup(skb, query, sizeof(*query), 0) == FIB_FORWARDED && query->interface == to;
}

/* As the host stack does it: the next neighbor's address, and one hop less. */
INLINE bool readdress(struct __sk_buff *skb, const struct packet *packet, const struct fib_query *query)
{
	__u8 hops[4];
	__u8 macs[12];
	__u16 sum;

	__builtin_memcpy(macs, query->destination_mac, 6);
	__builtin_memcpy(macs + 6, query->source_mac, 6);
	__builtin_memcpy(hops, packet->hops, 4);
	if (store(skb, 0, macs, sizeof(macs), 0))
		return false;
	if (packet->features.family == 6) {
		hops[1]--;
		return store(skb, ETHERNET_HEADER + 6, hops, 2, KEEP_CHECKSUM) == 0;
	}
	hops[0]--;
	__builtin_memcpy(&sum, hops + 2, 2);
	sum = (__u32)sum + network16(0x0100) + ((__u32)sum + network16(0x0100) >= 0xffff);
	__builtin_memcpy(hops + 2, &sum, 2);
	return store(skb, ETHERNET_HEADER + 8, hops, 4, 0) == 0;
}

INLINE void count_past(void)
{
	__u32 at = processor() & (PAST_COUNTS - 1);
	struct past_count *count = map_lookup(&past, &at);

	if (count)
		__sync_fetch_and_add(&count->packets, 1);
}

/* NEXT: it goes to the host stack, as it came. */
INLINE int go_past(struct __sk_buff *skb, struct run *run, const struct known *known)
{
	const struct packet *packet = &run->packet;
	struct connection *flow = known->flow;
	__u32 by = known->by & 1, other = !by;
	struct fib_query query;
	union way way;
	__u32 size;

	if (!flow || !(run->flags & GOES_PAST) || !is_in_the_middle(packet) || !is_open(flow))
		return NEXT;
	way.all = flow->ways[by].all;
	if (!way.to || (__u32)(known->now >> WAY_SHIFT) - flow->opened[by] >= WAY_LIFE)
		return NEXT;
	/* The other end is reached by where this comes from. */
	if (flow->ways[other].to != skb->ifindex || way.to == skb->ifindex)
		return NEXT;
	if (flow->ends[other] == AT_WORKLOAD && flow->interfaces[other] != way.to)
		return NEXT;
	if (skb->pkt_type != TO_INTERFACE || skb->vlan_present || packet->hops[packet->features.family == 6] <= 1)
		return NEXT;
	size = size_of(skb, packet);
	if (!size || size > way.most || !is_route(skb, packet, way.to, size, &query))
		return NEXT;
	if (!readdress(skb, packet, &query))
		return DROP;
	if (by == CALLER)
		refresh(flow, packet, CALLER, known->now);
	count_past();
	skb->mark &= ~MARKS;
	if (way.to_peer)
		return redirect_peer(way.to, 0);
	skb->mark |= PAST;
	return redirect(way.to, 0);
}
