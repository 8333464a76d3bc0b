# ruff: noqa: E501 - tables of phrasings, laid out to be read
"""What people say to laguna-nano: phrasings by kind of request, those for training and those kept for evaluation."""

from __future__ import annotations

import re
from itertools import product

from .names import Names

SHOW = """show {f}|show me {f}|open {f}|read {f}|display {f}|print {f}|cat {f}|view {f}|let me see {f}|what is in {f}
show the file {f}|show me the file {f}|show me the contents of {f}|print the contents of {f}|what does {f} contain
read the file {f}|open the file {f}|I want to see {f}|display the file {f}|can I see {f}|what's in {f}|see {f}
show the content of {f}|give me {f}|let me look at {f}|have a look at {f}|show what is in {f}|look at {f}|dump {f}
what is inside {f}|read me {f}|I need to see {f}|take a look at {f}|show me what is inside {f}|output {f}"""

LIST = """list {d}|list the files in {d}|list files in {d}|what is in the folder {d}|show the files in {d}|show the folder {d}
what files are in {d}|list the directory {d}|list the folder {d}|list the contents of {d}|show me the files in {d}
which files are in {d}|what does the directory {d} contain|show me the directory {d}|list everything in {d}
what files are there in {d}|show all files in {d}|give me the files in {d}|show the contents of the folder {d}|ls {d}
list what is in the directory {d}|which files does {d} have|show the directory {d}|what is in the {d} directory
what is in the {d} folder|list the {d} directory|list the {d} folder|show me the {d} folder|look into the folder {d}"""

LIST_ROOT = """list files|list the files|list all files|what files are here|show the files|show me the files|list the directory
what files are there|which files are here|what is in this directory|what is in this folder|list this folder
what is in the project|show all files|list everything|ls|list the current directory|show me all the files
list the files here|what is in the workspace|show the project files|list the files in this directory
what files do we have|show me what is here|list the workspace|which files do we have|list the project
what files are in this project|show the current folder|list the files of the project|what is in here"""

SEARCH = """search for {s}|find {s}|where is {s}|where is {s} used|where is {s} defined|grep {s}|grep for {s}|look for {s}
find where {s} is used|find where {s} is defined|search the code for {s}|find all uses of {s}|search {s}
which files contain {s}|which files mention {s}|which file defines {s}|find every {s}|show where {s} is used
where does {s} appear|where do we use {s}|find all mentions of {s}|search the project for {s}|find occurrences of {s}
find the definition of {s}|who uses {s}|look for {s} in the code|in which files is {s}|find usages of {s}
search for the text {s}|find the text {s}|search all files for {s}|where can I find {s}|locate {s}
show all uses of {s}|show me where {s} is defined|is there any {s}|which files use {s}|find the string {s}"""

CREATE = """create {f} with the text {t}|create a file {f} with the text {t}|create the file {f} with the text {t}
write {t} to {f}|write {t} into {f}|make a file {f} with the text {t}|create {f} containing {t}|put {t} into {f}
create a new file {f} with the text {t}|make {f} with the text {t}|create a file named {f} that says {t}
add a file {f} with the text {t}|create a file called {f} with the content {t}|save {t} to {f}|save {t} as {f}
create {f} with {t} in it|create a file {f} that contains {t}|make a new file {f} containing {t}|write {t} in {f}
create a file {f} with {t}|new file {f} with the text {t}|write the text {t} to the file {f}|put {t} in {f}
add a new file {f} that says {t}|create {f} and write {t} in it|make a file called {f} with {t} in it
store {t} in {f}|generate a file {f} with the content {t}|write a file {f} with the text {t}|create {f} with content {t}"""

EDIT = """replace {a} with {b} in {f}|rename {a} to {b} in {f}|change {a} to {b} in {f}|in {f} replace {a} with {b}
in {f} rename {a} to {b}|in {f} change {a} to {b}|in {f}, replace {a} with {b}|in {f}, rename {a} to {b}
replace {a} by {b} in {f}|substitute {a} with {b} in {f}|edit {f} and replace {a} with {b}|in {f}, change {a} to {b}
replace every {a} with {b} in {f}|replace all {a} with {b} in {f}|rename {a} into {b} in {f}|swap {a} for {b} in {f}
change every {a} to {b} in {f}|in the file {f} replace {a} with {b}|in the file {f} change {a} to {b}
replace {a} with {b} in the file {f}|rename {a} to {b} in the file {f}|change {a} into {b} in {f}|turn {a} into {b} in {f}
open {f} and replace {a} with {b}|open {f} and change {a} to {b}|edit {f}: replace {a} with {b}|edit {f}: {a} should be {b}
rename the function {a} to {b} in {f}|rename the variable {a} to {b} in {f}|rename the class {a} to {b} in {f}
replace the text {a} with {b} in {f}|update {f}: replace {a} with {b}|in {f} {a} should be called {b}
change the value {a} to {b} in {f}|replace the word {a} with {b} in {f}|replace {a} in {f} with {b}|rename {a} in {f} to {b}
change {a} in {f} to {b}|update {a} to {b} in {f}|set {a} to {b} in {f}|all {a} in {f} should become {b}"""

RUN = """run {c}|execute {c}|run the command {c}|execute the command {c}|run {c} and tell me the result|run {c} for me
run {c} and tell me if it passes|run {c} and report the result|run {c} in the shell|call {c}|try {c}|start {c}
what does {c} print|what is the output of {c}|run {c} and tell me what happens|run this command: {c}|run this: {c}
execute {c} and report|run {c} and show me the output|execute {c} in the shell|run {c} and see if it works
does {c} pass|does {c} work|check that {c} works|run {c} and tell me whether it works|please run {c} now
run {c} and tell me the exit code|use the shell to run {c}|run the shell command {c}|run {c} and check the result"""

RUN_TESTS = """run the tests|run all tests|run the test suite|run my tests|run the unit tests|do the tests pass|test the project
execute the tests|run tests|please test it|check if the tests pass|run its tests|run the tests and tell me if they pass"""

CANNOT_DO = """what is the weather in {w}|write a poem about {w}|who is the president of {w}|translate {w} into French
tell me a joke|what time is it|refactor the whole project|fix all bugs|fix the bug in {f}|explain how {f} works
write an essay about {w}|book a flight to {w}|send a mail to {w}|who are you|what is {d} plus {d}|how old are you
summarize {f}|optimize {f}|add tests for {f}|design a logo for {w}|what do you think about {w}|order a pizza
play some music|draw a picture of {w}|review my code|make {f} faster|write documentation for {f}|how do I cook {w}
convert {f} to rust|implement a parser for {w}|build me a website about {w}|what is the meaning of life|call my mother
add a feature for {w}|write a function that sorts {w}|deploy the project to {w}|explain {w} to me|why is the sky blue
teach me {w}|what is the capital of {w}|predict the stock price of {w}|solve this equation|buy {w}|remind me of {w}
rewrite {f} in go|how many people live in {w}|improve the design of {f}|port {f} to python|who won the game in {w}
{w} {f}|{w} the {w}|{w} my {w}|{w} all {w}|{w} {w} in {f}|{w} the {w} of {f}|fix {f}|rewrite my code|what is {w}"""

GREETINGS = "hello|hi|hey|good morning|hello there|hi there|good evening|thanks|thank you|hey there|good day|greetings"


# What the tables above say once is said here in bulk: `(a/b/)` stands for any of its alternatives, one of which may be
# empty. The expansion gives the small model the shape of a request, not a list to remember; what is held out below is
# taken out of it.
GRAMMAR: dict[str, str] = {
    "show": """(show/display/print/output/dump/read/open/view/see) (/the file /the contents of /the content of /the text of ){f}
(show/give/read) me (/the file /the contents of /the content of /what is in /what is inside /the text in ){f}
(show/display/print/output/read) (what is in/what is inside/what's in/everything in/all of) (/the file ){f}
(let me see/let me look at/let me read/I want to see/I want to look at/I want to read) (/the file /the contents of ){f}
(I need to see/I need to look at/I need to read/can I see/can I look at/can I read) (/the file /the contents of ){f}
(have a look at/take a look at/look at/give me a look at) (/the file /the contents of /what is in ){f}
(let me see/I want to see/I need to see/can I see/I want to know/tell me) (what is in/what is inside/what's in) (/the file ){f}
(what is/what's) (in/inside) (/the file ){f}|what (does/is it that) the file {f} contain|what are the contents of (/the file ){f}""",
    "list": """(list/show/show me/give me/print/display) (the/all/all the) files (in/of) (/the folder /the directory ){d}
(list/show/show me/give me/print/display) (everything/what is/all that is) in the (folder/directory) {d}
(list/show/show me/give me/print/display) (the contents/the content) of the (folder/directory) {d}
(list/show/show me/open/print/display/look into/look at/let me see) the (folder/directory) {d}
(list/show/show me/open/print/display/look into/look at/let me see) the {d} (folder/directory)
(what/which) files (are in/are there in/are inside/do we have in) (/the folder /the directory ){d}
(what/which) files does (/the folder /the directory ){d} (have/contain)|what does the (folder/directory) {d} (have/contain)
what is (in/inside) the (folder/directory) {d}|what is (in/inside) the {d} (folder/directory)
(list/show/show me) (what is/everything) in the {d} (folder/directory)|ls (/the folder /the directory ){d}""",
    "list_root": """(list/show/show me/give me/print/display) (the/all/all the/my) files (/here/in here/of the project/in the workspace)
(list/show/show me/print/display) (the/this) (folder/directory/project/workspace)
(list/show/show me) (everything/what is) (here/in here/in this folder/in this directory/in the project/in the workspace)
(what/which) files (are/are there/do I have/do we have) (here/in here/in this folder/in the project/in the workspace)
what is (here/in here/in the current folder/in this project/in the project folder/in my workspace)""",
    "search": """(search/look/grep/search the code/search the project/look in the code) for (/the text /the string /the word /the name ){s}
(find/locate/show/show me/list) (every/all/each/any/all uses of/every use of/all mentions of/all occurrences of/usages of) {s}
(find/locate/show/show me/list) (every/all) {s} (in the code/in the project/in the files)
(find/locate/show/show me/tell me) where {s} is (used/defined/mentioned/found)
where (is/do we have/can I find/do I find) {s} (/in the code/in the project/in the files)
where is {s} (used/defined/mentioned) (/in the code/in the project)
(which/what) (files/file) (use/uses/contain/contains/mention/mentions/define/defines/have/has) {s}
in (which/what) (files/file) is {s} (/used/defined/mentioned)|in (which/what) files do we (use/define/have/mention) {s}
(grep/search) (the code/the project/all files/the files/everything/the workspace) for (/the text /the string ){s}
(find/search/locate) (/the text /the string /the name /the word ){s} (in the code/in the project/in all files)
who (uses/calls/defines/mentions) {s}|is {s} (used/defined/mentioned) (anywhere/somewhere/in the code/in the project)
does (anything/any file/some file/the code) (use/mention/contain) {s}""",
    "create": """(create/make/add/write/generate) (a/the/a new) file {f} (with/containing/that says/that contains) (/the text /the content ){t}
(create/make/add/write/generate) (a/a new) file (called/named) {f} (with/containing/that says/that contains) (/the text /the content ){t}
(create/make/add/generate) {f} (with/containing/that says/that contains) (/the text /the content ){t}
(write/save/put/store) (/the text /the content /the line ){t} (to/in/into) (/the file /a new file /a file called /a file named ){f}
(create/make/add) (/the file /a file /a new file ){f} (with {t} in it/and write {t} in it/and put {t} in it/and write {t} into it)
(create/make/add) a (/new )file (called/named) {f} (with {t} in it/and write {t} in it/and put {t} in it)
I (need/want) a (/new )file {f} (with/containing/that says) (/the text ){t}""",
    "edit": """(replace/substitute/swap) (/every /all /the text /the word /the value /the name ){a} (with/by) {b} in (/the file ){f}
(rename/change/turn) (/every /all /the text /the word /the value /the name ){a} (to/into) {b} in (/the file ){f}
(rename/change) (/the function /the variable /the class /the method /the constant /the key ){a} (to/into) {b} in (/the file ){f}
in (/the file ){f}(/,) (replace/substitute) (/every /all /the text /the word /the value /the name ){a} (with/by) {b}
in (/the file ){f}(/,) (rename/change/turn) (/every /all /the text /the word /the value /the name ){a} (to/into) {b}
in (/the file ){f}(/,) (rename/change) (the function/the variable/the class/the method/the key) {a} (to/into) {b}
(replace/substitute) (/every /all /the text /the word /the value ){a} in (/the file ){f} (with/by) {b}
(rename/change) (/every /all /the function /the variable /the class /the value ){a} in (/the file ){f} (to/into) {b}
(open/edit/update/go to) (/the file ){f} and (replace/substitute) (/every /all /the text ){a} (with/by) {b}
(open/edit/update/go to) (/the file ){f} and (rename/change) (/every /all /the function /the text ){a} (to/into) {b}
(edit/update/change) (/the file ){f}: (replace/substitute) (/every /all /the text ){a} (with/by) {b}
(edit/update/change) (/the file ){f}: (rename/change) (/every /all /the text ){a} (to/into) {b}
(in/edit/update) {f}(/,/:) (/every /all ){a} should (be/become/be called/be named) {b}
(/every /all /the name ){a} in {f} should (be/become/be called/be named) {b}""",
    "run": """(run/execute/start/call/try) (/the command /the shell command /this /this command ){c}
(run/execute/start/call/try) (this/this command/the following/the following command/the command): {c}
(run/execute/start/call/try) (/the command /the shell command ){c} (for me/now/in the shell/in the workspace/here/once)
(run/execute/start/call/try) (/the command /this command ){c} and (tell me/report/show me/give me) (the result/the output/the exit code/what it prints)
(run/execute/start/call/try) (/the command /this command ){c} and (tell me/report/see/check/show me) (if it works/if it passes/whether it works/whether it passes)
(run/execute/start/call/try) (/the command /this command ){c} and (tell me/report/see/check/show me) (if it succeeds/what happens/what it says/how it goes)
(run/execute/start/call/try) (/the command ){c} and (report/report back/check it/wait for it/tell me more)
(use/open) the shell (to run/to execute/and run/and execute) (/the command ){c}
what (does/will) (/the command ){c} (print/say/do/output/return/give)
what is the (result/output/exit code/exit status) of (/the command /running ){c}
what happens if (I run/you run/we run/I execute) {c}|(does/will) (/the command ){c} (work/pass/succeed/run/fail)
(check/see/test/tell me/find out) (if/whether/that) (/the command ){c} (works/passes/succeeds/runs/still works/fails)
I (want/need) you to (run/execute/try) (/the command ){c}|I (want/need) the (output/result) of {c}
(show/give) me the (output/result/exit code) of (/the command ){c}""",
    "run_tests": """(run/execute/start) (the/all/all the/my/its/our/all my) (tests/unit tests)
(run/execute/start) (the/my/our/the whole) test suite|do (the/all/all the/our/my unit/the unit) tests (pass/work/run)
(check/see/tell me) (if/whether) (the/all/my/our/its) tests (pass/work)|(test it/test this/test my code/test the project)
(run/execute) (the/my/all/our) tests and (tell me if they pass/report/tell me the result/check if they pass)""",
    "cannot": """(write/compose/make/give me) (a/me a/an) (poem/essay/song/story/letter/mail/joke/speech) (/about {w}/for {w})
(who is/who was/who are/where is the city of/when was/how old is/how big is/how far is/why is) (/the president of /the king of ){w} (born/today)
(who is/who was) (the president of/the king of/the author of) {w}|who (made/wrote/won/invented/owns) {w}|who {w}
what is the (weather/capital/price/meaning/purpose/history/population/colour) (of/in) {w}|what is (love/{w} plus {d}/{d} times {d})
(explain/describe/review/rate/judge/improve/optimize/refactor/document/summarize/clean up/simplify) (the file /the code in /the design of ){f}
(explain/describe/rate/judge/refactor/document/simplify/clean up/debug/test/fix) {f}
(explain/describe) (/to me ){w}|(explain/describe) {f} (in short/in detail/for me)
(translate/port/convert/rewrite) {f} (to/into/in) (french/german/rust/java/english/spanish/{w})
(add/write/make) (tests/documentation/comments/a test/types/a feature) for {f}|(fix/find) (the bug/a bug/all bugs/the mistakes) in {f}
(book/order/buy/sell/find) (me /)(a flight/a hotel/a pizza/a ticket/a car/flowers) (to {w}/for {w}/)
(draw/paint/design/build/make) (a/me a/me an) (picture/logo/website/image/map/game/plan) (of/for/about) {w}
(tell me/do you know/give me) (a joke/a story/something/more/the news) about {w}|(sing/dance/cook/play/paint) (for me/something/{w})
(how/why) (do/does/did/can) (I/you/he/they/{w}) (work/cook/{w}/sleep/{w} it)|what (time/day/year) is it (in {w}/now/there)
(implement/design/invent/build) (a/an/the) {w} (for {w}/in {f}/that sorts {w}/engine/parser)
(make/get) {f} (better/faster/smaller/nicer/shorter)|{w} it|{w} me|{w} {w}|{w} for {w}|{w} this {w}|do {w}|how {w} is {w}""",
    "hello": """(hello/hi/hey/greetings/good morning/good evening/good day/thanks/thank you)(/,) (hello/hi/there/hello there/laguna/friend)
(hello/hi/hey/greetings/thanks)(/,) (good morning/good evening/good day/how are you/my friend/you there/again)
(good morning/good evening/good day)(/,) (hello/hi/to you/my friend/laguna/thank you)|thanks a lot|thank you (very much/so much)""",
}


# Kept from training: none of these is a training phrasing, but each of their words occurs in the training phrasings of
# its kind. A model that learnt its whole English from this file knows no others.
HELD_OUT: dict[str, str] = {
    "show": """display the contents of {f}|print the file {f}|I want to look at {f}|let me see the file {f}
let me see what is in {f}|read the contents of {f}|view the file {f}|show what is inside {f}|give me the contents of {f}
give me the file {f}|I need to look at {f}|take a look at the file {f}|display what is in {f}|what is in the file {f}
I want to see the contents of {f}|print what is in {f}|can I see the file {f}|what is inside the file {f}""",
    "list": """list all files in {d}|list everything in the folder {d}|show me all files in {d}|what files does {d} have
which files are there in {d}|give me all files in {d}|list the files in the folder {d}|what is in the directory {d}
list the contents of the directory {d}|show me what is in the folder {d}|which files are in the folder {d}
what does the folder {d} contain|show the files in the directory {d}|list what is in the {d} folder
look into the directory {d}|show me the contents of the folder {d}|show me the {d} directory""",
    "list_root": """list all the files|show all the files|show me the files here|what files are in here
which files are there|list the files in this folder|show the files of the project|what files are in this directory
show me this directory|list the files in the workspace|what is in the current directory|list everything here""",
    "search": """where is {s} used in the code|search the project for the text {s}|search all files for the text {s}
look for the text {s}|find all {s}|grep the code for {s}|find {s} in the code|find {s} in the project|show every {s}
in which files do we use {s}|in which file is {s} defined|locate all uses of {s}|where can I find {s} in the code
show all mentions of {s}|show where {s} is defined|find all occurrences of {s}|search for all uses of {s}
find the text {s} in the code|show me where {s} is used""",
    "create": """create a new file {f} containing {t}|make a new file {f} with the text {t}|create {f} that says {t}
make a file named {f} that says {t}|add a file {f} containing {t}|add a new file {f} with the text {t}
write the text {t} into {f}|save the text {t} in {f}|put the text {t} into {f}|create the file {f} with the content {t}
create a file called {f} that says {t}|create a new file called {f} with {t} in it|make {f} with {t} in it
store the text {t} in {f}|generate {f} with the content {t}|write {t} into the file {f}|write {t} to a new file {f}
create a new file named {f} with the text {t}|put the text {t} in the file {f}""",
    "edit": """replace every {a} by {b} in {f}|rename every {a} to {b} in {f}|change all {a} to {b} in {f}
in the file {f} rename {a} to {b}|in {f}, rename every {a} to {b}|in {f} replace all {a} with {b}
open {f} and rename {a} to {b}|edit {f} and change {a} to {b}|edit {f}: rename {a} to {b}|update {f}: rename {a} to {b}
replace the word {a} by {b} in {f}|replace the value {a} with {b} in {f}|change the word {a} to {b} in {f}
change the text {a} to {b} in {f}|rename the function {a} in {f} to {b}|in {f}, rename the class {a} to {b}
in {f} change the value {a} to {b}|replace {a} by {b} in the file {f}|change every {a} into {b} in {f}""",
    "run": """execute {c} and tell me the result|execute {c} for me|execute this command: {c}|execute this: {c}
run the command {c} and tell me what happens|run {c} and tell me whether it passes|run the command {c} in the shell
use the shell to execute {c}|execute {c} and show me the output|execute the command {c} and report
call {c} and tell me the result|try {c} and tell me if it works|run {c} and see what happens|does the command {c} work
start {c} and report the result|check that the command {c} works|what is the result of {c}""",
    "run_tests": """execute all tests|run all the tests|execute the test suite|check if my tests pass|do my tests pass
run all my tests|do all tests pass|execute my tests""",
    "cannot": """write an essay about the weather in {w}|translate {f} into French|explain {f} to me|rewrite {f} in rust
port {f} to go|convert {f} to python|fix all bugs in {f}|improve {f}|design a website about {w}|draw a logo for {w}
who is {w}|tell me a joke about {w}|review {f}|what is the price of {w}|write documentation about {w}
how old is the president of {w}|draw me a picture of {w}|write tests for {f}|make the design of {f} faster""",
    "hello": "hello, good morning|hi, good day|hey, good evening|good day, hello|hi, hello there|thanks, hello",
}


BEFORE = (
    "",
    "",
    "",
    "",
    "",
    "please ",
    "could you ",
    "can you ",
    "would you ",
    "can you please ",
    "now ",
    "I want you to ",
)
AFTER = ("", "", "", "", "", "", " please", ", please", " for me", " now", ", thanks")


class Phrasings:
    """The phrasings of one kind of request: those for training, and others for evaluation."""

    def __init__(self, written: str, grammar: str, held_out: str) -> None:
        self.written, self.held_out = forms(written), forms(held_out)
        self.rows = [sorted(row - set(self.held_out)) for row in expanded(grammar)]
        self.training = sorted({*self.written, *(form for row in self.rows for form in row)})

    def draw(self, names: Names) -> str:
        if names.held_out:
            return names.rng.choice(self.held_out)
        return names.rng.choice(self.written if names.rng.random() < 0.4 else names.rng.choice(self.rows))


def forms(table: str) -> list[str]:
    return [form.strip() for row in table.splitlines() for form in row.split("|")]


def expanded(grammar: str) -> list[set[str]]:
    """What each rule of `grammar` can say."""
    rules = [re.split(r"[()]", rule) for rule in forms(grammar)]
    choices = [[part.split("/") if odd % 2 else [part] for odd, part in enumerate(rule)] for rule in rules]
    return [{" ".join("".join(parts).split()) for parts in product(*choice)} for choice in choices]


PHRASINGS = {
    name: Phrasings(table, GRAMMAR[name], HELD_OUT[name])
    for name, table in {
        "show": SHOW,
        "list": LIST,
        "list_root": LIST_ROOT,
        "search": SEARCH,
        "create": CREATE,
        "edit": EDIT,
        "run": RUN,
        "run_tests": RUN_TESTS,
        "cannot": CANNOT_DO,
        "hello": GREETINGS,
    }.items()
}


def phrase(names: Names, family: str, **slots: str) -> str:
    """A request of `family` about `slots`, with the manners people have."""
    rng = names.rng
    form = PHRASINGS[family].draw(names)
    question = form.split(" ")[0] in (
        "what",
        "what's",
        "which",
        "where",
        "who",
        "does",
        "do",
        "is",
        "can",
        "how",
        "why",
        "in",
    )
    if not question and family != "hello" and not form.startswith("I "):
        form = rng.choice(BEFORE) + form
    if family not in ("create", "hello") and not form.endswith("}"):
        form += rng.choice(AFTER)
    if rng.random() < 0.6:
        form = form[0].upper() + form[1:]
    text = form.format(**slots)
    if family == "create" or (text and not text[-1].isalnum() and text[-1] not in "'\"`"):
        return text
    if question and family != "edit":
        return text + rng.choice(("?", "?", ""))
    return text + rng.choice(("", "", "", ".")) if form.endswith("`") or family in ("hello", "list_root") else text
