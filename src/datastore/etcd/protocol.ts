/**
 * Protocol: the part of etcd's v3 gRPC interface that the store uses, as a constant (so that a compiled executable needs no file),
 * and the types of its messages as they come out of the codec: keys and values are bytes, 64 bit numbers are decimal text.
 * Source: etcd api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto (field names and numbers).
 */
import type { INamespace } from "protobufjs/light.js";

type Field = { readonly type: string; readonly id: number; readonly rule?: "repeated" };
const field = (type: string, id: number): Field => ({ type, id });
const list = (type: string, id: number): Field => ({ type, id, rule: "repeated" });

/** In the JSON form of protobuf descriptors. */
export const ETCD_DESCRIPTOR: INamespace = {
  nested: {
    mvccpb: {
      nested: {
        KeyValue: {
          fields: {
            key: field("bytes", 1),
            createRevision: field("int64", 2),
            modRevision: field("int64", 3),
            version: field("int64", 4),
            value: field("bytes", 5),
          },
        },
        Event: {
          fields: { type: field("EventType", 1), kv: field("KeyValue", 2), prevKv: field("KeyValue", 3) },
          nested: { EventType: { values: { PUT: 0, DELETE: 1 } } },
        },
      },
    },
    etcdserverpb: {
      nested: {
        KV: {
          methods: {
            Range: { comment: "", requestType: "RangeRequest", responseType: "RangeResponse" },
            Txn: { comment: "", requestType: "TxnRequest", responseType: "TxnResponse" },
            Compact: { comment: "", requestType: "CompactionRequest", responseType: "CompactionResponse" },
          },
        },
        Auth: {
          methods: {
            Authenticate: { comment: "", requestType: "AuthenticateRequest", responseType: "AuthenticateResponse" },
          },
        },
        AuthenticateRequest: { fields: { name: field("string", 1), password: field("string", 2) } },
        AuthenticateResponse: { fields: { header: field("ResponseHeader", 1), token: field("string", 2) } },
        Watch: {
          methods: {
            Watch: {
              comment: "",
              requestType: "WatchRequest",
              requestStream: true,
              responseType: "WatchResponse",
              responseStream: true,
            },
          },
        },
        ResponseHeader: { fields: { revision: field("int64", 3) } },
        RangeRequest: {
          fields: {
            key: field("bytes", 1),
            rangeEnd: field("bytes", 2),
            limit: field("int64", 3),
            revision: field("int64", 4),
            serializable: field("bool", 7),
            keysOnly: field("bool", 8),
          },
        },
        RangeResponse: {
          fields: {
            header: field("ResponseHeader", 1),
            kvs: list("mvccpb.KeyValue", 2),
            more: field("bool", 3),
            count: field("int64", 4),
          },
        },
        PutRequest: { fields: { key: field("bytes", 1), value: field("bytes", 2) } },
        PutResponse: { fields: { header: field("ResponseHeader", 1) } },
        DeleteRangeRequest: { fields: { key: field("bytes", 1), rangeEnd: field("bytes", 2) } },
        DeleteRangeResponse: { fields: { header: field("ResponseHeader", 1), deleted: field("int64", 2) } },
        RequestOp: {
          oneofs: { request: { oneof: ["requestRange", "requestPut", "requestDeleteRange"] } },
          fields: {
            requestRange: field("RangeRequest", 1),
            requestPut: field("PutRequest", 2),
            requestDeleteRange: field("DeleteRangeRequest", 3),
          },
        },
        ResponseOp: {
          oneofs: { response: { oneof: ["responseRange", "responsePut", "responseDeleteRange"] } },
          fields: {
            responseRange: field("RangeResponse", 1),
            responsePut: field("PutResponse", 2),
            responseDeleteRange: field("DeleteRangeResponse", 3),
          },
        },
        Compare: {
          oneofs: { targetUnion: { oneof: ["version", "createRevision", "modRevision"] } },
          fields: {
            result: field("CompareResult", 1),
            target: field("CompareTarget", 2),
            key: field("bytes", 3),
            version: field("int64", 4),
            createRevision: field("int64", 5),
            modRevision: field("int64", 6),
          },
          nested: {
            CompareResult: { values: { EQUAL: 0, GREATER: 1, LESS: 2, NOT_EQUAL: 3 } },
            CompareTarget: { values: { VERSION: 0, CREATE: 1, MOD: 2, VALUE: 3 } },
          },
        },
        TxnRequest: {
          fields: { compare: list("Compare", 1), success: list("RequestOp", 2), failure: list("RequestOp", 3) },
        },
        TxnResponse: {
          fields: { header: field("ResponseHeader", 1), succeeded: field("bool", 2), responses: list("ResponseOp", 3) },
        },
        CompactionRequest: { fields: { revision: field("int64", 1), physical: field("bool", 2) } },
        CompactionResponse: { fields: { header: field("ResponseHeader", 1) } },
        WatchRequest: {
          oneofs: { requestUnion: { oneof: ["createRequest", "cancelRequest", "progressRequest"] } },
          fields: {
            createRequest: field("WatchCreateRequest", 1),
            cancelRequest: field("WatchCancelRequest", 2),
            progressRequest: field("WatchProgressRequest", 3),
          },
        },
        WatchCreateRequest: {
          fields: {
            key: field("bytes", 1),
            rangeEnd: field("bytes", 2),
            startRevision: field("int64", 3),
            progressNotify: field("bool", 4),
            prevKv: field("bool", 6),
            fragment: field("bool", 8),
          },
        },
        WatchCancelRequest: { fields: { watchId: field("int64", 1) } },
        WatchProgressRequest: { fields: {} },
        WatchResponse: {
          fields: {
            header: field("ResponseHeader", 1),
            watchId: field("int64", 2),
            created: field("bool", 3),
            canceled: field("bool", 4),
            compactRevision: field("int64", 5),
            cancelReason: field("string", 6),
            fragment: field("bool", 7),
            events: list("mvccpb.Event", 11),
          },
        },
      },
    },
  },
};

export interface KeyValue {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly createRevision: string;
  readonly modRevision: string;
}

export interface RangeResponse {
  readonly header: { readonly revision: string } | null;
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
}

export interface TxnResponse {
  readonly header: { readonly revision: string } | null;
  readonly succeeded: boolean;
  readonly responses: readonly { readonly responseRange: RangeResponse | null }[];
}

export interface WatchResponse {
  readonly header: { readonly revision: string } | null;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: string;
  readonly cancelReason: string;
  readonly fragment: boolean;
  readonly events: readonly {
    readonly type: "PUT" | "DELETE";
    readonly kv: KeyValue | null;
    readonly prevKv: KeyValue | null;
  }[];
}
