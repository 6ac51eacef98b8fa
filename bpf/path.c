/*
 * path: what src/program/path.ts says, at the two sides of interfaces.
 *
 * What a workload sends is checked when its interface receives it (loopback destination, forged source, neighbor discovery). It is judged when
 * services have been translated: what is forwarded where it leaves, first by the egress stage of the workload that it comes from, then by the
 * ingress stage of the one that it goes to; what is for the node itself at the gate. The stages of host endpoints are run where the packet comes
 * in (untracked and pre-DNAT), at the gate (normal), and where it leaves (forward, and untracked and normal for what the node sends).
 *
 * Policy is asked about the first packet of a flow. Whether a packet belongs to a known one is asked where it comes in, when answers have not
 * been translated back, and again where it leaves, when calls have been translated; a mark carries the first answer to the second place. What the
 * packet was where it came in is noted, and found where it leaves, by a token that the packet carries.
 */
#include "past.h"

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
INLINE int goes_on(struct __sk_buff *skb, struct run *run, enum knowledge knowledge, const struct known *known,
		   bool has_lane)
{
	int past;

	if (knowledge == ANSWERS_CUT)
		return drop(DROPPED_CUT);
	if (knowledge == CALLED_PLAINLY || knowledge == CARRIED) {
		past = go_past(skb, run, known, has_lane);
		if (past != NEXT)
			return past;
	}
	if (knowledge == CALLED_PLAINLY) {
		skb->mark |= FOR_GATE;
		return NEXT;
	}
	/* Where nothing translates it back, it is not for the node. */
	if (knowledge == CARRIED)
		skb->mark |= KNOWN | FOR_GATE;
	return pass(run, knowledge == CARRIED);
}

/* The interface of a workload, or one that has the name of a workload's, has received it. */
SECTION("tc/from_workload")
int from_workload(struct __sk_buff *skb)
{
	enum knowledge knowledge;
	struct known known;
	struct run *run;
	struct packet *packet;
	__u32 egress;
	bool is_read;
	int past;

	if (!is_ip(skb)) {
		skb->mark = (skb->mark & ~MARKS) | SEEN;
		return NEXT;
	}
	past = take_lane(skb);
	if (past != NEXT)
		return past;
	skb->mark = (skb->mark & ~MARKS) | SEEN;
	skb->tc_index = 0;
	run = begin(skb, skb->ifindex, 0, ETHERNET_HEADER, &is_read);
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
	knowledge = arrives(skb, run, AT_WORKLOAD, &known);
	if (knowledge > CALLED)
		return goes_on(skb, run, knowledge, &known, true);
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
	struct known known;
	const struct stages *host;
	struct run *run;
	__u32 normal, untracked;
	bool is_read, is_open;
	int past;

	if (!is_ip(skb)) {
		skb->mark &= ~MARKS;
		return NEXT;
	}
	past = take_lane(skb);
	if (past != NEXT)
		return past;
	skb->mark &= ~MARKS;
	skb->tc_index = 0;
	run = begin(skb, skb->ifindex, 0, ETHERNET_HEADER, &is_read);
	if (!run)
		return NEXT;
	host = stages_of(run, skb->ifindex);
	if (!is_read)
		return host ? drop(DROPPED_MALFORMED) : NEXT;
	is_open = is_failsafe(run, INGRESS, DESTINATION, SOURCE);
	untracked = stage_of(host, HOST, UNTRACKED, INGRESS);
	if (untracked && !is_open && !is_failsafe(run, EGRESS, SOURCE, SOURCE)) {
		if (judge_by(run, untracked) == DROP)
			return DROP;
		if (run->is_by_rule) {
			skb->mark |= KNOWN;
			return NEXT;
		}
	}
	knowledge = arrives(skb, run, OUTSIDE, &known);
	if (knowledge > CALLED)
		return goes_on(skb, run, knowledge, &known, !untracked);
	if (!is_open && knowledge != CALLED && judge_by(run, stage_of(host, HOST, PRE_DNAT, INGRESS)) == DROP)
		return DROP;
	if (!(run->flags & HAS_HOST_ENDPOINTS))
		return note_origin(skb, run);
	normal = stage_of(host, HOST, NORMAL, INGRESS);
	if (normal && gate_judges())
		return leave_to_gate(skb, run);
	if (!is_for_node(skb, &run->packet))
		return decides(normal) ? leave_to_gate(skb, run) : note_origin(skb, run);
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

	run = begin(skb, skb->ingress_ifindex, 0, 0, &is_read);
	if (!run || !is_read)
		return 1;
	if (run->packet.is_later_fragment)
		return !has_passed(run, 0);
	own = stages_at(run, skb->ingress_ifindex);
	kind = own && own->kind == WORKLOAD ? AT_WORKLOAD : OUTSIDE;
	if (kind == AT_WORKLOAD && is_discovery(&run->packet, 135, 136))
		return 0;
	if (!restore(skb, run, kind, AT_NODE)) {
		/* Where nothing but a staged stage has brought it here, it goes on without being counted. */
		if (kind == OUTSIDE && !(skb->mark & KNOWN) &&
		    (stage_of(own ? own : stages_at(run, 0), HOST, NORMAL, INGRESS) & COUNTS_ALONE))
			return 0;
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
		return pass(run, 0);
	origin = origin_of(skb, &run->packet);
	if (!origin)
		return pass(run, 0);
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
	return pass(run, 0);
}

/* The path itself sends it here, past the host stack. */
INLINE bool comes_past(struct __sk_buff *skb)
{
	if (!skb->ingress_ifindex || (skb->mark & MARKS) != PAST)
		return false;
	skb->mark &= ~MARKS;
	return true;
}

/* A workload's interface, or one that has the name of a workload's, sends it to the workload. */
SECTION("tc/to_workload")
int to_workload(struct __sk_buff *skb)
{
	const struct stages *other;
	struct run *run;
	__u32 ingress, from;
	bool is_read, is_known_before;

	if (!is_ip(skb) || comes_past(skb))
		return NEXT;
	run = begin(skb, skb->ingress_ifindex, skb->ifindex, ETHERNET_HEADER, &is_read);
	/* What the node sends to its own pods always passes. */
	if (!skb->ingress_ifindex) {
		if (!run || !is_read)
			return NEXT;
		if (is_known(skb, run, AT_NODE, AT_WORKLOAD))
			return pass(run, 0);
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
	if (is_known_before) {
		open_way_back(run, from, AT_WORKLOAD);
		return pass(run, 0);
	}
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
INLINE int forwarded(struct __sk_buff *skb, struct run *run, const struct stages *host, const struct stages *other,
		     bool is_known_before)
{
	__u32 from = other && other->kind == WORKLOAD ? AT_WORKLOAD : OUTSIDE;

	if (is_known_before) {
		open_way_back(run, from, OUTSIDE);
		return pass(run, 0);
	}
	if (is_known(skb, run, from, OUTSIDE))
		return go_known(skb, run, other);
	add(run, stage_of(other, HOST, FORWARD, INGRESS));
	add(run, stage_of(other, WORKLOAD, NORMAL, EGRESS));
	add(run, stage_of(host, HOST, FORWARD, EGRESS));
	if (!run->count)
		return NEXT;
	if (!restore(skb, run, from, OUTSIDE))
		return any_decides(run) ? drop(DROPPED_ORIGIN) : NEXT;
	if (from == AT_WORKLOAD && is_middle(&run->packet))
		return drop(DROPPED_INVALID);
	return judge(run) == DROP ? DROP : track(run);
}

/* Another interface sends what a process of the node has sent. */
INLINE int sent_by_node(struct __sk_buff *skb, struct run *run, const struct stages *host)
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
		return pass(run, 0);
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

	if (!is_ip(skb) || comes_past(skb))
		return NEXT;
	run = begin(skb, skb->ingress_ifindex, skb->ifindex, ETHERNET_HEADER, &is_read);
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
	return forwarded(skb, run, host, other, is_known_before);
}

char license_text[] SECTION("license") = "GPL";
