/* SPDX-License-Identifier: Apache-2.0 */
/* What a structure costs: made from a message's bytes (as a delivery does), and read back from its record (as FETCH ENVELOPE does). */
#include "bench/micro/c.h"

extern "C" {
#include "core/base/limits.h"
#include "storage/structure_private.h"
}

static std::string make_mail(size_t bytes)
{
	std::string mail = "Date: Tue, 14 Jan 2025 10:30:00 +0100\r\nFrom: =?utf-8?Q?J=C3=B6rg?= Muster <joerg@example.net>\r\n"
			   "To: Ann Example <ann@example.org>, b@example.org\r\nSubject: Re: [list] benchmark of structures\r\n"
			   "Message-ID: <1234567890.abcdef@mail.example.net>\r\nReferences: <1@example.org> <2@example.org>\r\n"
			   "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"=-boundary\"\r\n\r\n"
			   "--=-boundary\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n";
	while (mail.size() < bytes / 2)
		mail += "Some words of a message that somebody wrote to somebody else, on a line.\r\n";
	mail += "\r\n--=-boundary\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>\r\n";
	while (mail.size() < bytes)
		mail += "<p>Some words of a message that somebody wrote to somebody else, on a line.</p>\r\n";
	return mail + "\r\n--=-boundary--\r\n";
}

static void structure_made(benchmark::State &state)
{
	const std::string mail = make_mail(static_cast<size_t>(state.range(0)));
	for (auto _ : state) {
		struct mime_parser *parser = mime_open();
		mime_feed(parser, slice_of_string(mail));
		struct mime_tree *tree = mime_close(parser);
		uint64_t wanted;
		const struct mime_part *part = structure_preview_part(tree, &wanted);
		struct structure *s = structure_make(tree, slice_of(mail.data() + part->body_offset, wanted), wanted == part->body_bytes);
		struct structure_stored stored;
		BENCH_CHECK(structure_encode(s, STRUCTURE_BYTES_MAX, &stored));
		state.counters["stored"] = static_cast<double>(stored.keys.ptr + stored.keys.len - stored.memory);
		structure_stored_release(&stored);
		structure_close(s);
	}
	state.SetBytesProcessed(static_cast<int64_t>(mail.size()) * state.iterations());
}
BENCHMARK(structure_made)->Arg(4096)->Arg(20480)->Arg(200000);

static void structure_read(benchmark::State &state)
{
	const std::string mail = make_mail(4096);
	const struct structure *s = structure_of_bytes(slice_of_string(mail));
	struct structure_stored stored;
	struct body_record record = {};
	BENCH_CHECK(structure_encode(s, STRUCTURE_BYTES_MAX, &stored));
	record.fixed.bytes = mail.size();
	structure_to_record(&stored, &record);
	for (auto _ : state) {
		struct structure *read = structure_decode(&record);
		BENCH_CHECK(read != nullptr);
		structure_close(read);
	}
	structure_stored_release(&stored);
	structure_close(s);
}
BENCHMARK(structure_read);
