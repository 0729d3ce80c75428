package otlpgrpc

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
)

// gRPC may still be writing a request whose call was cancelled.
func TestMarshalCopies(t *testing.T) {
	for _, size := range []int{1, 1 << 10, 64 << 10, 3 << 20} {
		request := bytes.Repeat([]byte{1}, size)
		data, err := codec{}.Marshal(&message{request})
		if err != nil {
			t.Fatal(err)
		}
		for i := range request {
			request[i] = 2
		}
		if got := data.Materialize(); len(got) != size || bytes.IndexByte(got, 2) >= 0 {
			t.Errorf("%d bytes: the marshaled request changes with the Exporter's bytes", size)
		}
		data.Free()
	}
}

func TestCodecOfAnotherMessage(t *testing.T) {
	if data, err := (codec{}).Marshal("text"); err == nil {
		t.Errorf("Marshal of a string = %d bytes, want an error", data.Len())
	}
	if err := (codec{}).Unmarshal(mem.BufferSlice{}, new(string)); err == nil {
		t.Error("Unmarshal into a string succeeds, want an error")
	}
}
