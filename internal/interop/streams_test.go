package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// startStreams runs an upstream of HTTP/2 that ends streams as their paths say:
//
//	/streams/reset/CODE   RST_STREAM in the place of a response
//	/streams/cut/CODE     RST_STREAM after the response's headers and half of its body
func startStreams(t *testing.T) string { return listen(t, serveStreams) }

// serveStreams serves one connection until it ends.
func serveStreams(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if fr.WriteSettings() != nil {
		return
	}
	paths := make(map[uint32]string)
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			return
		}
		whole := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && fr.WriteSettingsAck() != nil {
				return
			}
		case *http2.MetaHeadersFrame:
			paths[f.StreamID], whole = f.PseudoValue("path"), f.StreamEnded()
		case *http2.DataFrame:
			whole = f.StreamEnded()
		}
		if id := frame.Header().StreamID; whole {
			how, code, _ := strings.Cut(strings.TrimPrefix(paths[id], "/streams/"), "/")
			n, _ := strconv.ParseUint(code, 10, 32)
			if how == "cut" {
				var block bytes.Buffer
				enc := hpack.NewEncoder(&block)
				_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
				_ = enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "text/plain"})
				_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
				_ = fr.WriteData(id, false, make([]byte, 100))
			}
			if fr.WriteRSTStream(id, http2.ErrCode(n)) != nil {
				return
			}
		}
	}
}

// makeStream draws an exchange whose stream is reset by the upstream.
func makeStream(r *rand.Rand) *exchange {
	x := &exchange{
		Path:   path{HTTP2: one(r, 2), Egress: one(r, 3), Spawn: !one(r, 4)},
		Method: pick(r, "GET", "POST", "POST"), Answers: []answer{{Status: 200}},
	}
	if x.Method == "POST" {
		x.Body = pick(r, 0, 5, 5, 1000)
	}
	code := pick(r, "0", "1", "2", "3", "5", "7", "8", "10", "11", "13")
	if code == "1" || code == "7" { // which net/http sends again by itself, if it can
		x.Method, x.Body = "POST", pick(r, 5, 1000)
	}
	x.Target = "/streams/" + pick(r, "reset", "reset", "cut") + "/" + code
	return x
}

// TestDifferentialStreams lets the upstream of both reset streams of HTTP/2 by all codes.
func TestDifferentialStreams(t *testing.T) {
	generated(t, "streams that are reset, through Envoy and examples/gateway", 24, "testdata/exchanges-streams.json", count(50, 200), makeStream)
}
