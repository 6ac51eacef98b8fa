/** Numbers of the nf_tables netlink interface. Source: linux/netfilter/nf_tables.h, nfnetlink.h, libnftnl/udata.h. */
import type { KeyField, NftBaseChain, NftTableFlag, TableFamily } from "./objects.ts";

export const NFNL_MSG_BATCH_BEGIN = 0x10;
export const NFNL_MSG_BATCH_END = 0x11;
export const NFNL_SUBSYS_NFTABLES = 10;

/** Message types, with the subsystem in the high byte. */
const type = (number: number): number => (NFNL_SUBSYS_NFTABLES << 8) | number;
export const NFT_MSG_NEWTABLE = type(0);
export const NFT_MSG_GETTABLE = type(1);
export const NFT_MSG_DELTABLE = type(2);
export const NFT_MSG_NEWCHAIN = type(3);
export const NFT_MSG_GETCHAIN = type(4);
export const NFT_MSG_DELCHAIN = type(5);
export const NFT_MSG_NEWRULE = type(6);
export const NFT_MSG_GETRULE = type(7);
export const NFT_MSG_DELRULE = type(8);
export const NFT_MSG_NEWSET = type(9);
export const NFT_MSG_GETSET = type(10);
export const NFT_MSG_DELSET = type(11);
export const NFT_MSG_NEWSETELEM = type(12);
export const NFT_MSG_GETSETELEM = type(13);
export const NFT_MSG_DELSETELEM = type(14);
export const NFT_MSG_NEWGEN = type(15);
export const NFT_MSG_GETGEN = type(16);
export const NFT_MSG_NEWFLOWTABLE = type(22);
export const NFT_MSG_GETFLOWTABLE = type(23);
export const NFT_MSG_DELFLOWTABLE = type(24);

/** Of struct nfgenmsg: family, version, res_id (big-endian). */
export const NFGENMSG = 4;
export const FAMILY: { readonly [F in TableFamily]: number } = { inet: 1, ip: 2, ip6: 10 };

export const NFTA_LIST_ELEM = 1;
export const NFTA_TABLE_NAME = 1;
export const NFTA_TABLE_FLAGS = 2;
export const NFTA_TABLE_OWNER = 7;
/** NFT_TABLE_F_DORMANT, NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST, by bit. */
export const TABLE_FLAGS: readonly NftTableFlag[] = ["dormant", "owner", "persist"];
export const NFTA_GEN_ID = 1;
export const NFTA_GEN_PROC_PID = 2;
export const NFTA_GEN_PROC_NAME = 3;
/** The table's name in messages about a table and about whatever is in it: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_OBJ_TABLE, … */
export const NFTA_ANY_TABLE = 1;

export const NFTA_CHAIN_TABLE = 1;
export const NFTA_CHAIN_NAME = 3;
export const NFTA_CHAIN_HOOK = 4;
export const NFTA_CHAIN_POLICY = 5;
export const NFTA_CHAIN_TYPE = 7;
export const NFTA_HOOK_HOOKNUM = 1;
export const NFTA_HOOK_PRIORITY = 2;

export const NFTA_FLOWTABLE_TABLE = 1;
export const NFTA_FLOWTABLE_NAME = 2;
export const NFTA_FLOWTABLE_HOOK = 3;
export const NFTA_FLOWTABLE_FLAGS = 7;
export const NFTA_FLOWTABLE_HOOK_NUM = 1;
export const NFTA_FLOWTABLE_HOOK_PRIORITY = 2;
export const NFTA_FLOWTABLE_HOOK_DEVS = 3;
export const NFTA_DEVICE_NAME = 1;
/** NF_NETDEV_INGRESS, the one hook of flowtables. */
export const NETDEV_INGRESS = 0;

export const NFTA_RULE_TABLE = 1;
export const NFTA_RULE_CHAIN = 2;
export const NFTA_RULE_HANDLE = 3;
export const NFTA_RULE_EXPRESSIONS = 4;
export const NFTA_RULE_POSITION = 6;
export const NFTA_RULE_USERDATA = 7;

export const NFTA_EXPR_NAME = 1;
export const NFTA_EXPR_DATA = 2;

export const NFTA_DATA_VALUE = 1;
export const NFTA_DATA_VERDICT = 2;
export const NFTA_VERDICT_CODE = 1;
export const NFTA_VERDICT_CHAIN = 2;

export const NFTA_SET_TABLE = 1;
export const NFTA_SET_NAME = 2;
export const NFTA_SET_FLAGS = 3;
export const NFTA_SET_KEY_TYPE = 4;
export const NFTA_SET_KEY_LEN = 5;
export const NFTA_SET_DATA_TYPE = 6;
export const NFTA_SET_DATA_LEN = 7;
export const NFTA_SET_DESC = 9;
export const NFTA_SET_ID = 10;
export const NFTA_SET_USERDATA = 13;
/** Number of elements; kernels before 6.16 do not say it. */
export const NFTA_SET_COUNT = 20;
export const NFTA_SET_DESC_CONCAT = 2;
export const NFTA_SET_FIELD_LEN = 1;

export const NFT_SET_INTERVAL = 0x4;
export const NFT_SET_MAP = 0x8;
export const NFT_SET_CONCAT = 0x80;
/** NFT_DATA_VERDICT: type of the values of a verdict map. */
export const DATA_TYPE_VERDICT = 0xffffff00;

export const NFTA_SET_ELEM_LIST_TABLE = 1;
export const NFTA_SET_ELEM_LIST_SET = 2;
export const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
export const NFTA_SET_ELEM_KEY = 1;
export const NFTA_SET_ELEM_DATA = 2;
export const NFTA_SET_ELEM_FLAGS = 3;
export const NFTA_SET_ELEM_KEY_END = 10;
export const NFT_SET_ELEM_INTERVAL_END = 1;

export const NF_DROP = 0;
export const NF_ACCEPT = 1;

/** NF_INET_PRE_ROUTING … NF_INET_POST_ROUTING, by number. */
export const HOOKS: readonly NftBaseChain["hook"][] = ["prerouting", "input", "forward", "output", "postrouting"];

/** `nft`'s number of the type, and its length in bytes. `nft` shows elements by these; the kernel only stores them. Source: nftables include/datatype.h. */
export const KEY_FIELDS: { readonly [F in KeyField]: { readonly type: number; readonly length: number } } = {
  nf_proto: { type: 2, length: 1 },
  ipv4_addr: { type: 7, length: 4 },
  ipv6_addr: { type: 8, length: 16 },
  inet_proto: { type: 12, length: 1 },
  inet_service: { type: 13, length: 2 },
  iface_index: { type: 20, length: 4 },
  ifname: { type: 41, length: 16 },
};
/** A concatenation's type is its fields' types, six bits each, the first highest. */
export const TYPE_BITS = 6;

/** NFTNL_UDATA_SET_KEYBYTEORDER, NFTNL_UDATA_SET_DATABYTEORDER and the byte orders of nftables. */
export const UDATA_SET_KEYBYTEORDER = 0;
export const BYTEORDER_HOST = 1;
export const BYTEORDER_BIG = 2;
/** NFTNL_UDATA_RULE_COMMENT: text with its NUL. */
export const UDATA_RULE_COMMENT = 0;
/** Without the NUL. Source: nftables include/rule.h, NFTNL_UDATA_COMMENT_MAXLEN. */
export const COMMENT_MAX_BYTES = 128;
