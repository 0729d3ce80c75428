package otlpwire

import (
	"math"
	"strings"
	"time"
)

const (
	maxMessage = 1 << 10  // bytes kept of a collector's words
	maxStatus  = 64 << 10 // bytes read of a google.rpc.Status
)

// ReadResponse reads an ExportTraceServiceResponse: how many spans the collector
// refused for good and what it says about that, cut at 1 KiB and made UTF-8. Both
// are zero where it took everything; a message with 0 rejected is a warning.
// A negative count is 0. The error is a *WireError.
func ReadResponse(b []byte) (rejected int64, message string, err error) {
	m, err := scan(b, exportResponse, maxAnswer, nil)
	if err != nil {
		return 0, "", err
	}
	var f, g field
	for m.next(&f) {
		if f.num != 1 { // ExportTracePartialSuccess partial_success = 1;
			continue
		}
		for p := m.sub(&f); p.next(&g); {
			switch g.num {
			case 1: // int64 rejected_spans = 1;
				rejected = max(0, int64(g.v))
			case 2: // string error_message = 2;
				message = clip(p.bytes(&g))
			}
		}
	}
	return rejected, message, nil
}

// AppendResponse appends an ExportTraceServiceResponse. Where rejected is 0 and
// message empty it is no bytes at all: the collector took everything.
func AppendResponse(dst []byte, rejected int64, message string) []byte {
	if rejected == 0 && message == "" {
		return dst
	}
	var repaired int
	dst, mark := open(dst, 1)                      // ExportTracePartialSuccess partial_success = 1;
	dst = appendUint(dst, 1, uint64(rejected))     // int64  rejected_spans = 1;
	dst = appendString(dst, 2, message, &repaired) // string error_message  = 2;
	return closeAt(dst, mark)
}

// Status is a google.rpc.Status.
type Status struct {
	Code    int32  // google.rpc.Code, 0 OK to 16 UNAUTHENTICATED; others as they come
	Message string // cut at 1 KiB and made UTF-8
	// RetryInfo says that the collector asks for the request again, after RetryDelay
	// (0 or more).
	RetryInfo  bool
	RetryDelay time.Duration
}

// ReadStatus reads a google.rpc.Status of at most 64 KiB, as a gRPC server sends it in
// grpc-status-details-bin (without its base64) and an OTLP/HTTP server as the body of
// an error. Details other than google.rpc.RetryInfo are passed over. The error is a
// *WireError.
func ReadStatus(b []byte) (Status, error) {
	m, err := scan(b, rpcStatus, maxStatus, nil)
	if err != nil {
		return Status{}, err
	}
	var s Status
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // int32 code = 1;
			s.Code = int32(f.v)
		case 2: // string message = 2;
			s.Message = clip(m.bytes(&f))
		case 3: // repeated google.protobuf.Any details = 3;
			if err := readDetail(m.sub(&f), &s); err != nil {
				return Status{}, err
			}
		}
	}
	return s, nil
}

// AppendStatus appends a google.rpc.Status, with a google.rpc.RetryInfo where s has one.
func AppendStatus(dst []byte, s Status) []byte {
	var repaired int
	dst = appendUint(dst, 1, uint64(int64(s.Code)))  // int32  code    = 1;
	dst = appendString(dst, 2, s.Message, &repaired) // string message = 2;
	if !s.RetryInfo {
		return dst
	}
	dst, detail := open(dst, 3)                                             // repeated Any details = 3;
	dst = appendString(dst, 1, "type.googleapis.com/"+retryInfo, &repaired) // string type_url = 1;
	dst, value := open(dst, 2)                                              // bytes  value    = 2;
	dst, delay := open(dst, 1)                                              // Duration retry_delay = 1;
	dst = appendUint(dst, 1, uint64(s.RetryDelay/time.Second))              // int64 seconds = 1;
	dst = appendUint(dst, 2, uint64(s.RetryDelay%time.Second))              // int32 nanos   = 2;
	return closeAt(closeAt(closeAt(dst, delay), value), detail)
}

const retryInfo = "google.rpc.RetryInfo"

func readDetail(m message, s *Status) error {
	var typeURL string
	value := message{reader: m.reader}
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // string type_url = 1;
			typeURL = m.text(&f)
		case 2: // bytes value = 2;
			value = m.sub(&f)
		}
	}
	if typeURL[strings.LastIndexByte(typeURL, '/')+1:] != retryInfo {
		return nil
	}
	new(scanner).message(value, rpcRetryInfo, 0)
	s.RetryInfo, s.RetryDelay = true, 0
	for value.next(&f) {
		if f.num == 1 { // google.protobuf.Duration retry_delay = 1;
			s.RetryDelay = readDuration(value.sub(&f))
		}
	}
	return value.err
}

// readDuration returns a google.protobuf.Duration, 0 where it is negative and the
// longest time.Duration where it is longer.
func readDuration(m message) time.Duration {
	var seconds, nanos int64
	var f field
	for m.next(&f) {
		switch f.num {
		case 1: // int64 seconds = 1;
			seconds = int64(f.v)
		case 2: // int32 nanos = 2;
			nanos = int64(int32(f.v))
		}
	}
	if seconds > math.MaxInt64/int64(time.Second)-3 { // an int32 of nanoseconds is less than 3 s
		return math.MaxInt64
	}
	if seconds < 0 {
		return 0
	}
	return max(0, time.Duration(seconds)*time.Second+time.Duration(nanos))
}

// clip returns at most maxMessage bytes of b as valid UTF-8.
func clip(b []byte) string {
	b = b[:min(len(b), maxMessage)]
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
