// Package requestid makes, reads and forwards x-request-id, the id by which
// Envoy and everything behind it know a request.
//
//	id := requestid.New()                      // 7f3c2a10-5b6d-4e8f-9a01-2b3c4d5e6f70
//	ctx = requestid.NewContext(ctx, id)        // outgoing calls carry it from here on
//	requestid.FromContext(ctx)                 // in a handler: the id that travels
//	id.Reason()                                // why the request is traced, NotTraceable if it is not
//	requestid.Equal(id, other)                 // the same request, whatever the reason says
//
// # Terms
//
// The reason digit is the character at index 14 of an id of 36 bytes, the
// version digit of a UUID. Envoy packs into it why a request is traced (RID-9):
// 4 not at all, 9 chosen by its share, a by x-envoy-force-trace, b by
// x-client-trace-id. So one request has up to four spellings; [Equal] and
// [ID.Canonical] take them as one, and so should a join over logs.
//
// The sampling number is the first 8 characters read as hex (RID-14). Every hop
// that samples by it comes to the same decision. An id without one, such as a
// word, a ULID or a UUID in braces, is never traced by Envoy (D-3, RID-15).
//
// A [Policy] says what becomes of an id that arrives: kept inside the mesh,
// replaced at its edge (RID-1 to RID-8).
//
// # Limits
//
// Ids are for correlation and are no secrets: nothing may rest on their being
// hard to guess. [Parse] takes at most [MaxLen] bytes of a small alphabet, so an
// accepted id is safe in a log line, a header and a URL path. A UUID of version 7
// starts with the time, so all ids of 65 seconds share one sampling number: see
// [FromUUID].
package requestid
