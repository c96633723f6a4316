# SPDX-License-Identifier: Apache-2.0
"""Awkward messages, and what RFC 9051 section 7.5.2 wants as ENVELOPE and BODYSTRUCTURE of each, written down by hand.

(name, why it is so, message with LF ends, envelope, structure); None: not looked at, another case is about it.
"""

NOTHING = '(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)'

CASES = [
    ('nothing', 'every field is absent: NIL (RFC 9051). No Content-Type: text/plain (RFC 2045 section 5.2)',
     '\n', NOTHING, '("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 0 0 NIL NIL NIL NIL)'),
    ('empty fields', 'Date, Subject, In-Reply-To, Message-ID that are empty are empty strings; addresses are NIL, and Sender and Reply-To are then From',
     'Date:\nSubject: \nFrom:\nTo: \nIn-Reply-To:\nMessage-ID:\n\nx\n',
     '("" "" NIL NIL NIL NIL NIL NIL "" "")', None),
    ('defaults', 'Sender and Reply-To that are not there, or empty, are From',
     'From: Ann <ann@example.org>\nReply-To:\n\nx\n',
     '(NIL NIL (("Ann" NIL "ann" "example.org")) (("Ann" NIL "ann" "example.org")) (("Ann" NIL "ann" "example.org")) NIL NIL NIL NIL NIL)', None),
    ('addresses', 'RFC 5322 3.4 and 4.4: quoted names, escapes, comments, routes, quoted local parts, no name',
     'From: "Q. \\"Uote\\"" <q@example.org>\nSender: bare@example.org (Its Name)\nTo: Bob B. Builder <@a,@b:bob@example.org>,\n  "x y"@example.net, Carl (of (the) team) <carl@example.net>\n\nx\n',
     '(NIL NIL (("Q. \\"Uote\\"" NIL "q" "example.org")) (("Its Name" NIL "bare" "example.org")) (("Q. \\"Uote\\"" NIL "q" "example.org"))'
     ' (("Bob B. Builder" "@a,@b" "bob" "example.org") (NIL NIL "x y" "example.net") ("Carl" NIL "carl" "example.net")) NIL NIL NIL NIL)', None),
    ('groups', 'a group begins with an address without host, and ends with one of NILs',
     'From: a@example.org\nTo: friends: b@example.org, C <c@example.org>;, d@example.org\nCc: undisclosed-recipients:;\n\nx\n',
     '(NIL NIL ((NIL NIL "a" "example.org")) ((NIL NIL "a" "example.org")) ((NIL NIL "a" "example.org"))'
     ' ((NIL NIL "friends" NIL) (NIL NIL "b" "example.org") ("C" NIL "c" "example.org") (NIL NIL NIL NIL) (NIL NIL "d" "example.org"))'
     ' ((NIL NIL "undisclosed-recipients" NIL) (NIL NIL NIL NIL)) NIL NIL NIL)', None),
    ('folding', 'CRLF before white space is taken away, the white space stays (RFC 5322 2.2.3)',
     'Subject: one\n two\n\tthree\nIn-Reply-To: <1@x>\n <2@x>\n\nx\n',
     '(NIL "one two\tthree" NIL NIL NIL NIL NIL NIL "<1@x> <2@x>" NIL)', None),
    ('encoded words', 'are sent as they are; the client decodes them (RFC 9051: ENVELOPE is of the header as it is)',
     'From: =?utf-8?Q?J=C3=B6rg?= <joerg@example.org>\nSubject: =?iso-8859-1?Q?=FC?=\n\nx\n',
     '(NIL "=?iso-8859-1?Q?=FC?=" (("=?utf-8?Q?J=C3=B6rg?=" NIL "joerg" "example.org")) (("=?utf-8?Q?J=C3=B6rg?=" NIL "joerg" "example.org"))'
     ' (("=?utf-8?Q?J=C3=B6rg?=" NIL "joerg" "example.org")) NIL NIL NIL NIL NIL)', None),
    ('8-bit header', 'the octets as they are: nobody knows their charset',
     'Subject: Gr\xfc\xdfe\n\nx\n', '(NIL "Gr\xfc\xdfe" NIL NIL NIL NIL NIL NIL NIL NIL)', None),
    ('twice', 'of a field that may be there once the first counts',
     'Subject: first\nSubject: second\nMessage-ID: <1@x>\nMessage-ID: <2@x>\n\nx\n', '(NIL "first" NIL NIL NIL NIL NIL NIL NIL "<1@x>")', None),
    ('blank before the colon', 'obsolete syntax (RFC 5322 4.5)',
     'Subject : spaced\n\nx\n', '(NIL "spaced" NIL NIL NIL NIL NIL NIL NIL NIL)', None),
    ('no end of header', 'all of it is the header; the body is empty',
     'Subject: alone\n', '(NIL "alone" NIL NIL NIL NIL NIL NIL NIL NIL)', '("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 0 0 NIL NIL NIL NIL)'),
    ('all of a part', 'id, description, encoding, size, lines, MD5, disposition, language, location (RFC 9051)',
     'Content-Type: text/plain; charset=UTF-8; format=flowed\nContent-ID: <c@x>\nContent-Description: What it is\nContent-Transfer-Encoding: 8bit\n'
     'Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\nContent-Disposition: inline; filename="a b.txt"\nContent-Language: en, de\nContent-Location: http://x/y\n\ntext\n',
     None, '("text" "plain" ("charset" "UTF-8" "format" "flowed") "<c@x>" "What it is" "8bit" 6 1 "Q2hlY2sgSW50ZWdyaXR5IQ=="'
     ' ("inline" ("filename" "a b.txt")) ("en" "de") "http://x/y")'),
    ('one language', 'one is a string',
     'Content-Language: en\n\ntext\n', None, '("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 6 1 NIL NIL "en" NIL)'),
    ('no text', 'only text and message/rfc822 have lines',
     'Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nQUJD\n', None, '("application" "pdf" NIL NIL NIL "base64" 6 NIL NIL NIL NIL)'),
    ('base64 with junk', 'the size is of the encoded octets, whatever they are',
     'Content-Type: image/png\nContent-Transfer-Encoding: BASE64 (junk inside)\n\n!QU#JD=\n\x80==\n', None, '("image" "png" NIL NIL NIL "BASE64" 14 NIL NIL NIL NIL)'),
    ('continuations', 'RFC 2231 section 6: a server joins the pieces, whatever their order; one that is encoded makes all of it encoded',
     "Content-Type: application/x; name*1=\"b c.txt\"; a=1; name*0*=utf-8'en'a%20\n"
     'Content-Disposition: attachment; filename*0="long"; filename*1=er; filename*3=lost; size=7\n\nx\n', None,
     '("application" "x" ("name*" "utf-8\'en\'a%20b%20c.txt" "a" "1") NIL NIL "7BIT" 3 NIL'
     ' ("attachment" ("filename" "longer" "filename*3" "lost" "size" "7")) NIL NIL)'),
    ('plain text without a charset', 'is us-ascii (RFC 2046 section 4.1.2); another text has no default of ours',
     'Content-Type: text/plain; format=flowed\n\nx\n', None, '("text" "plain" ("format" "flowed" "charset" "us-ascii") NIL NIL "7BIT" 3 1 NIL NIL NIL NIL)'),
    ('recipients in several fields', 'count as one list (RFC 5322 section 4.5.3)',
     'To: a@x\nCc: b@x\nTo:\nTo: c@x, d@x\n\nx\n',
     '(NIL NIL NIL NIL NIL ((NIL NIL "a" "x") (NIL NIL "c" "x") (NIL NIL "d" "x")) ((NIL NIL "b" "x")) NIL NIL NIL)', None),
    ('no subtype', 'a Content-Type that is out of form is text/plain (RFC 2045 section 5.2)',
     'Content-Type: text\n\nx\n', None, '("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 1 NIL NIL NIL NIL)'),
    ('no type', 'the same', 'Content-Type: ;;=\n\nx\n', None, '("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 1 NIL NIL NIL NIL)'),
    ('two parts', 'preamble, epilogue; the CRLF before a delimiter belongs to it (RFC 2046 5.1.1)',
     'Content-Type: multipart/mixed; boundary="b b"\n\npreamble\n--b b\n\none\n--b b  \nContent-Type: text/html\n\n<p>\n\n--b b--\nepilogue\n', None,
     '(("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) ("text" "html" NIL NIL NIL "7BIT" 5 1 NIL NIL NIL NIL)'
     ' "mixed" ("boundary" "b b") NIL NIL NIL)'),
    ('no close delimiter', 'the last part goes to the end',
     'Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n', None,
     '(("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 5 1 NIL NIL NIL NIL)'
     ' "mixed" ("boundary" "b") NIL NIL NIL)'),
    ('no boundary', 'a multipart that has none cannot be parted: one part, as text, which is what can be shown (RFC 2045 section 5.2)',
     'Content-Type: multipart/mixed\n\n--b\n\none\n--b--\n', None, '("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 19 4 NIL NIL NIL NIL)'),
    ('no part', 'a body-type-mpart has at least one part (the grammar): an empty one',
     'Content-Type: multipart/mixed; boundary=b\n\nno delimiter\n', None,
     '(("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)'),
    ('inner boundary begins like the outer', 'the longer one is found (RFC 2046 5.1.2)',
     'Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n\none\n--bb--\n\n--b\n\ntwo\n--b--\n', None,
     '((("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) "alternative" ("boundary" "bb") NIL NIL NIL)'
     ' ("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)'),
    ('outer delimiter inside', 'it ends whatever is open (RFC 2046 5.1.2)',
     'Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\none\n--o\n\ntwo\n--o--\n', None,
     '((("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) "alternative" ("boundary" "i") NIL NIL NIL)'
     ' ("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "o") NIL NIL NIL)'),
    ('message inside', 'envelope, structure and lines of it (RFC 9051 body-type-msg)',
     'Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: in\nFrom: i@example.org\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--c--\n\n--b--\n', None,
     '(("message" "rfc822" NIL NIL NIL "7BIT" 98 (NIL "in" ((NIL NIL "i" "example.org")) ((NIL NIL "i" "example.org")) ((NIL NIL "i" "example.org")) NIL NIL NIL NIL NIL)'
     ' (("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "c") NIL NIL NIL) 8 NIL NIL NIL NIL)'
     ' "mixed" ("boundary" "b") NIL NIL NIL)'),
    ('message in base64', 'is not allowed (RFC 2046 5.2.1): it cannot be looked into, so it is no message/rfc822 here',
     'Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA0KDQo=\n', None, '("application" "octet-stream" NIL NIL NIL "base64" 22 NIL NIL NIL NIL)'),
    ('digest', 'parts without Content-Type are messages (RFC 2046 5.1.5)',
     'Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\none\n--b--\n', None,
     '(("message" "rfc822" NIL NIL NIL "7BIT" 18 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)'
     ' "digest" ("boundary" "b") NIL NIL NIL)'),
    ('part without a body', 'a delimiter ends its header',
     'Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n', None,
     '(("text" "html" NIL NIL NIL "7BIT" 0 0 NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL)'
     ' "mixed" ("boundary" "b") NIL NIL NIL)'),
    ('unknown encoding', 'is told as it is', 'Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nx\n', None,
     '("text" "plain" ("charset" "us-ascii") NIL NIL "x-uuencode" 3 1 NIL NIL NIL NIL)'),
    ('boundary in other words', 'quotes, escapes and a comment before it (RFC 2045 section 5.1)',
     'Content-Type: multipart/mixed (here: "x");\n (and) boundary="a\\"b"\n\n--a"b\n\none\n--a"b--\n', None,
     '(("text" "plain" ("charset" "us-ascii") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "a\\"b") NIL NIL NIL)'),
]


def message(case):
    return case[2].encode('latin-1').replace(b'\n', b'\r\n')
