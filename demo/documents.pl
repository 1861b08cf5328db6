#!/usr/bin/perl
# demo/documents.pl: files of a Debian documentation package to JSON lines {"id","source","text"}, one a file. The text
# is what the demo's experts were trained on, white space included, so that what they quote is found word for word;
# 'flextrace corpus' would give the same pages a cleaner layout. Needs perl-base alone.
#
#   documents.pl text PACKAGE FOLDER FILE…     as it stands (.gz decompressed); source PACKAGE:PATH below FOLDER
#   documents.pl html PACKAGE FOLDER FILE…     HTML; source PACKAGE:NAME
#   documents.pl man  PACKAGE FOLDER FILE…     rendered manual pages, NAME.txt; source PACKAGE:NAME
#   documents.pl gcide PACKAGE FOLDER FILE     the dictionary without its notes on sources
#   documents.pl bible PACKAGE FOLDER FILE     "Ge1:1 In the beginning…", one document a chapter
use strict;
use warnings;

# What is not UTF-8 becomes U+FFFD, one for each maximal ill-formed part.
my $good = qr/[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}
    |\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2}/x;
my $part = qr/\xE0[\xA0-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]|\xED[\x80-\x9F]|\xF0[\x90-\xBF][\x80-\xBF]?
    |[\xF1-\xF3][\x80-\xBF]{1,2}|\xF4[\x80-\x8F][\x80-\xBF]?/x;

sub read_file {
    my ($file) = @_;
    my $in;
    my $opened = $file =~ /\.(gz|dz)$/ ? open($in, '-|', 'gzip', '-dc', '--suffix', ".$1", $file) : open($in, '<', $file);
    die "$file: cannot read: $!\n" unless $opened;
    binmode $in;
    local $/;
    my $t = <$in> // '';
    close($in) or die "$file: cannot decompress\n";
    if (!utf8::decode($t)) {
        $t =~ s{($good)|$part|[\x80-\xFF]}{$1 // "\xEF\xBF\xBD"}ge;
        utf8::decode($t);
    }
    return $t;
}

my %entity = (amp => '&', lt => '<', gt => '>', quot => '"', apos => "'", nbsp => "\xA0");

sub unescape {
    my ($t) = @_;
    $t =~ s{&(?:#[xX]([0-9a-fA-F]+)|#([0-9]+)|(\w+));}
           {defined $1 ? chr hex $1 : defined $2 ? chr $2 : $entity{$3} // "&$3;"}ge;
    return $t;
}

my %block = map { $_ => 1 } qw(p div li h1 h2 h3 h4 h5 pre tr dt dd br table ul ol section blockquote);
my %hidden = map { $_ => 1 } qw(script style head nav footer);

sub from_html {
    my ($t) = @_;
    my ($out, $hide, $pre) = ('', 0, 0);
    while ($t =~ /\G(?:<!--.*?-->|<[!?][^>]*>|<(\/?)([a-zA-Z][^\s\/>]*)((?:[^>"']|"[^"]*"|'[^']*')*)>|([^<]+|<))/gcs) {
        my ($closing, $name, $rest, $text) = ($1, $2, $3, $4);
        if (defined $text) {
            next if $hide;
            $text = unescape($text);
            $text =~ s/\s+/ /gu unless $pre;
            $out .= $text;
        } elsif (defined $name) {
            $name = lc $name;
            for my $end ($closing ? 1 : $rest =~ /\/$/ ? (0, 1) : 0) {
                $hide += $end ? -($hide > 0) : 1 if $hidden{$name};
                $pre += $end ? -($pre > 0) : 1 if $name eq 'pre';
                $out .= "\n" if $block{$name};
            }
            $t =~ /\G.*?(?=<\/$name)/gcsi if !$closing && ($name eq 'script' || $name eq 'style');
        }
    }
    $out =~ s/[ \t]+\n/\n/g;
    return squeeze($out);
}

sub squeeze {
    my ($t) = @_;
    $t =~ s/\n{3,}/\n\n/g;
    $t =~ s/^\s+//u;
    $t =~ s/\s+$//u;
    return $t;
}

# Lines unindented, runs of spaces that laid out columns shortened.
sub from_man {
    my ($t) = @_;
    $t =~ s/.\x08//g;
    $t =~ s/\x1b\[[0-9;]*m//g;
    my @lines = split /\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\x{2028}\x{2029}]/, $t;
    for (@lines) { s/^\s+//u; s/\s+$//u; s/ {3,}/  /g }
    return squeeze(join "\n", @lines);
}

sub from_gcide {
    my ($t) = @_;
    $t =~ s/\n\s+\[1913\ Webster\]|\[1913\ Webster(?:\ \+PJC)?\]|\[PJC\]//gux;
    $t =~ s/\n{3,}/\n\n/g;
    return $t;
}

sub quote {
    my ($t) = @_;
    my %short = ("\n" => '\n', "\t" => '\t', '"' => '\"', '\\' => '\\\\');
    $t =~ s{([\x00-\x1F"\\])}{$short{$1} // sprintf('\\u%04x', ord $1)}ge;
    utf8::encode($t);
    return "\"$t\"";
}

sub print_document {
    my ($source, $text) = @_;
    print '{"id":', quote($source), ',"source":', quote($source), ',"text":', quote($text), "}\n";
}

sub print_chapters {
    my ($package, $t) = @_;
    my ($chapter, @verses) = '';
    for (split /\n/, $t) {
        next unless /^(\S+?)(\d+):(\d+) (.*)/;
        if ($chapter ne "$1 $2") {
            print_document("$package:$chapter", join "\n", @verses) if @verses;
            ($chapter, @verses) = "$1 $2";
        }
        push @verses, $4;
    }
    print_document("$package:$chapter", join "\n", @verses) if @verses;
}

my ($kind, $package, $folder, @files) = @ARGV;
die "usage: documents.pl text|html|man|gcide|bible PACKAGE FOLDER FILE…\n" unless @files;
for my $file (@files) {
    my $name = $file;
    $name =~ s/^\Q$folder\E\/*//;
    utf8::decode($name);
    (my $base = $name) =~ s/.*\///;
    my $t = read_file($file);
    if    ($kind eq 'text')  { print_document("$package:$name", $t) }
    elsif ($kind eq 'html')  { print_document("$package:$base", from_html($t)) }
    elsif ($kind eq 'gcide') { print_document("$package:gcide", from_gcide($t)) }
    elsif ($kind eq 'bible') { print_chapters($package, $t) }
    elsif ($kind eq 'man')   { $base =~ s/\.txt$//; print_document("$package:$base", from_man($t)) }
    else                     { die "documents.pl: '$kind' is no kind of document\n" }
}
close(STDOUT) or die "documents.pl: cannot write: $!\n";
